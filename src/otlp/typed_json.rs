//! Typed JSON: attributes as JSON text that any SQL engine reads and that loses nothing.
//!
//! Strings, booleans, integers (any `i64`) and arrays are as in JSON. A double always has a point or an exponent; NaN
//! and the infinities are `{"$double":"NaN"}`. Bytes are `{"$bytes":"<base64>"}`. No value is `null`. A key given
//! twice stands twice. A nested key that begins with `$` gets one more.
//!
//! Events and links are arrays of objects whose own fields are plain JSON and whose `attributes` are typed JSON; a
//! field that is zero or empty is left out:
//!
//! ```json
//! [{"time":1795310000000000000,"name":"exception","attributes":{"exception.type":"Oops"},"dropped":1}]
//! [{"trace_id":"0102…","span_id":"0102…","trace_state":"a=b","attributes":{},"dropped":1,"flags":769}]
//! ```
//!
//! [`mod@write`] makes the text, without white space; the readers here take white space, too.

pub mod write;

mod read;

use std::borrow::Cow;

use crate::error::{Result, report};

use read::Reader;

/// How deep values may nest in text that is read. What decoding lets in is less ([`super::Limits::depth`]).
pub const MAX_DEPTH: usize = 256;

/// A value of an attribute, borrowed from the text it stands in.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A string.
    String(Cow<'a, str>),
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A double.
    Double(f64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// A key-value list, in order, keys maybe repeated.
    List(Attributes<'a>),
    /// A value never set.
    None,
}

impl Value<'_> {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(text) = self { Some(text) } else { None }
    }

    /// The integer, if it is one.
    pub fn as_int(&self) -> Option<i64> {
        if let Self::Int(number) = self { Some(*number) } else { None }
    }
}

/// Attributes in order, keys maybe repeated.
pub type Attributes<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// An event of a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event<'a> {
    /// Nanoseconds since 1970, as sent.
    pub time: u64,
    /// Its name.
    pub name: Cow<'a, str>,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// How many attributes were dropped.
    pub dropped: u32,
}

/// A link of a span to another one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Link<'a> {
    /// The other trace's id in lower-case hex, as long as it was sent.
    pub trace_id: Cow<'a, str>,
    /// The other span's id in lower-case hex, as long as it was sent.
    pub span_id: Cow<'a, str>,
    /// Its trace state.
    pub trace_state: Cow<'a, str>,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// How many attributes were dropped.
    pub dropped: u32,
    /// Its flags.
    pub flags: u32,
}

/// An entity that takes part in a resource: names of its attributes. As OTLP/JSON writes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityRef<'a> {
    /// Its schema.
    pub schema_url: Cow<'a, str>,
    /// What it is, eg `service`.
    pub kind: Cow<'a, str>,
    /// Keys of attributes that identify it.
    pub id_keys: Vec<Cow<'a, str>>,
    /// Keys of attributes that describe it.
    pub description_keys: Vec<Cow<'a, str>>,
}

/// The attributes in `text` (an object of typed JSON, as our own writer made it), in order.
///
/// # Errors
/// If `text` is not typed JSON: the block was not written by us, or is damaged.
pub fn attributes(text: &str) -> Result<Attributes<'_>> {
    whole(text, |reader| reader.attributes())
}

/// A value of an attribute that has not been looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a>(&'a str);

impl<'a> Raw<'a> {
    /// The string, if it is one.
    pub fn as_str(self) -> Option<Cow<'a, str>> {
        if self.0.starts_with('"') { Reader::new(self.0).string().ok() } else { None }
    }

    /// The value, read.
    ///
    /// # Errors
    /// If it is not typed JSON.
    pub fn value(self) -> Result<Value<'a>> {
        value(self.0)
    }

    /// Its typed JSON.
    pub fn json(self) -> &'a str {
        self.0
    }
}

/// Shows every attribute in `text` (as [`attributes`] does, in order) to `visit`, reading keys alone: for those who look
/// for a few of them.
///
/// # Errors
/// If keys and values cannot be told apart. Values that nobody reads are not checked.
pub fn visit<'a>(text: &'a str, mut visit: impl FnMut(&str, Raw<'a>)) -> Result<()> {
    whole(text, |reader| reader.visit(|key, value| visit(key, Raw(value))))
}

/// One value in `text`.
///
/// # Errors
/// If `text` is not typed JSON.
pub fn value(text: &str) -> Result<Value<'_>> {
    whole(text, |reader| reader.value(0))
}

/// The events in `text` (the column `events`), in order.
///
/// # Errors
/// If `text` is not an array of events.
pub fn events(text: &str) -> Result<Vec<Event<'_>>> {
    whole(text, |reader| {
        reader.array(|reader| {
            let mut event = Event::default();
            reader.object(|reader, key| {
                match key {
                    "time" => event.time = reader.unsigned()?,
                    "name" => event.name = reader.string()?,
                    "attributes" => event.attributes = reader.attributes()?,
                    "dropped" => event.dropped = reader.count()?,
                    _ => return reader.unknown(key),
                }
                Ok(())
            })?;
            Ok(event)
        })
    })
}

/// The links in `text` (the column `links`), in order.
///
/// # Errors
/// If `text` is not an array of links.
pub fn links(text: &str) -> Result<Vec<Link<'_>>> {
    whole(text, |reader| {
        reader.array(|reader| {
            let mut link = Link::default();
            reader.object(|reader, key| {
                match key {
                    "trace_id" => link.trace_id = reader.string()?,
                    "span_id" => link.span_id = reader.string()?,
                    "trace_state" => link.trace_state = reader.string()?,
                    "attributes" => link.attributes = reader.attributes()?,
                    "dropped" => link.dropped = reader.count()?,
                    "flags" => link.flags = reader.count()?,
                    _ => return reader.unknown(key),
                }
                Ok(())
            })?;
            Ok(link)
        })
    })
}

/// The entities in `text` (the column `entity_refs`), in order.
///
/// # Errors
/// If `text` is not an array of entity references.
pub fn entity_refs(text: &str) -> Result<Vec<EntityRef<'_>>> {
    whole(text, |reader| {
        reader.array(|reader| {
            let mut entity = EntityRef::default();
            reader.object(|reader, key| {
                match key {
                    "schemaUrl" => entity.schema_url = reader.string()?,
                    "type" => entity.kind = reader.string()?,
                    "idKeys" => entity.id_keys = reader.array(|reader| reader.string())?,
                    "descriptionKeys" => entity.description_keys = reader.array(|reader| reader.string())?,
                    _ => return reader.unknown(key),
                }
                Ok(())
            })?;
            Ok(entity)
        })
    })
}

fn whole<'a, T>(text: &'a str, read: impl FnOnce(&mut Reader<'a>) -> Result<T, read::Bad>) -> Result<T> {
    let mut reader = Reader::new(text);
    let result = read(&mut reader).and_then(|result| reader.end().map(|()| result));
    result.map_err(|bad| report!("not typed JSON at byte {}: {}", bad.at, bad.what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(value: &Value<'_>) -> String {
        let mut out = Vec::new();
        write::value(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_kind_of_value_has_its_form() {
        let list = vec![
            ("a".into(), Value::Int(i64::MIN)),
            ("$a".into(), Value::Double(1.0)),
            ("$$".into(), Value::Double(-0.0)),
            ("a".into(), Value::Array(vec![])),
        ];
        let cases = [
            (Value::String("a\"b\\c\u{1}\n\u{7f}é\u{1F600}".into()), "\"a\\\"b\\\\c\\u0001\\n\u{7f}é\u{1F600}\""),
            (Value::Bool(true), "true"),
            (Value::Int(-7), "-7"),
            (Value::Double(7.0), "7.0"),
            (Value::Double(1e300), "1e300"),
            (Value::Double(f64::NEG_INFINITY), r#"{"$double":"-Infinity"}"#),
            (Value::Bytes(vec![0, 255, 16]), r#"{"$bytes":"AP8Q"}"#),
            (Value::Bytes(vec![]), r#"{"$bytes":""}"#),
            (Value::List(vec![]), "{}"),
            (Value::None, "null"),
            (Value::List(list), r#"{"a":-9223372036854775808,"$$a":1.0,"$$$":-0.0,"a":[]}"#),
        ];
        for (case, expected) in cases {
            assert_eq!(text(&case), expected);
            assert_eq!(value(expected).unwrap(), case);
        }
        assert!(matches!(value(r#"{"$double":"NaN"}"#).unwrap(), Value::Double(nan) if nan.is_nan()));
    }

    #[test]
    fn a_top_level_key_is_written_as_it_is() {
        let attributes = attributes(r#"{"$a":1,"$a":2}"#).unwrap();
        assert_eq!(attributes, [("$a".into(), Value::Int(1)), ("$a".into(), Value::Int(2))]);
    }

    #[test]
    fn what_is_not_typed_json_is_refused_with_its_place() {
        let deep = "[".repeat(100_000);
        for bad in [
            "",
            "{",
            "{\"a\"",
            "{\"a\":}",
            "[1,]",
            "\"\\x\"",
            "\"\\ud800\"",
            "01x",
            "{\"$other\":1}",
            "9223372036854775808",
            "nul",
            "1 2",
            &deep,
        ] {
            assert!(value(bad).is_err(), "{bad:.20}");
        }
        let report = attributes("{\"a\":tru}").unwrap_err();
        assert!(report.to_string().contains("byte 5"), "{report}");
    }

    #[test]
    fn events_links_and_entities_are_read() {
        let text = r#"[{"time":18446744073709551615,"name":"a\n","attributes":{"k":null},"dropped":4294967295},{}]"#;
        let event = Event {
            time: u64::MAX,
            name: "a\n".into(),
            attributes: vec![("k".into(), Value::None)],
            dropped: u32::MAX,
        };
        assert_eq!(events(text).unwrap(), [event, Event::default()]);
        let link = links(r#"[ {"trace_id":"00ff", "flags":769} ]"#).unwrap();
        assert_eq!(link, [Link { trace_id: "00ff".into(), flags: 769, ..Link::default() }]);
        let entity =
            entity_refs(r#"[{"schemaUrl":"","type":"service","idKeys":["a","b"],"descriptionKeys":[]}]"#).unwrap();
        assert_eq!(entity[0].id_keys, ["a", "b"]);
        assert!(events(r#"[{"times":1}]"#).is_err());
    }

    pub(crate) fn any_value() -> impl Strategy<Value = Value<'static>> {
        let leaf = prop_oneof![
            ".*".prop_map(|text| Value::String(text.into())),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>().prop_filter("NaN is not equal to itself", |number| !number.is_nan()).prop_map(Value::Double),
            proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::Bytes),
            Just(Value::None),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
                proptest::collection::vec(("[$a-c]{0,3}".prop_map(Cow::from), inner), 0..5).prop_map(Value::List),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(value in any_value()) {
            let text = text(&value);
            prop_assert_eq!(super::value(&text).unwrap(), value);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "any JSON reader takes it");
        }

        #[test]
        fn a_visit_shows_what_reading_reads(value in any_value()) {
            let list = vec![("a".into(), value.clone()), ("b\n".into(), Value::Int(1)), ("a".into(), value)];
            let text = text(&Value::List(list));
            let mut seen = Vec::new();
            super::visit(&text, |key, raw| seen.push((key.to_owned(), raw.value().unwrap()))).unwrap();
            let seen: Vec<(Cow<'_, str>, Value<'_>)> = seen.into_iter().map(|(key, value)| (key.into(), value)).collect();
            prop_assert_eq!(seen, attributes(&text).unwrap());
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in r#"[\[\]{}",:\\$a0-9.eEu+ tn-]{0,40}"#) {
            let _ = value(&text);
            let _ = events(&text);
            let _ = super::visit(&text, |_, raw| drop((raw.as_str(), raw.value())));
        }
    }
}
