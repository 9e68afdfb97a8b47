//! The few attributes that people filter on, copied into columns of their own while attributes are written. New and old
//! names of the semantic conventions; the new one counts where both stand.

use super::dictionary::{Dictionary, NONE};
use super::typed_json::{self, Value};

/// How much of a text is promoted: a filter needs no more, and one attribute must not blow up a dictionary.
const LONGEST: usize = 64 << 10;

const METHOD: usize = 0;
const OLD_METHOD: usize = 1;
const ROUTE: usize = 2;
const STATUS: usize = 3;
const OLD_STATUS: usize = 4;
const RPC_METHOD: usize = 5;
const RPC_SERVICE: usize = 6;
const DB_SYSTEM: usize = 7;
const OLD_DB_SYSTEM: usize = 8;
const ERROR_TYPE: usize = 9;
const SLOTS: usize = 10;

/// Where a span's promoted attributes stand in the text of its attributes.
#[derive(Debug, Default, Clone)]
pub(super) struct Found {
    /// Start and end of the value's typed JSON; the first one of a repeated key.
    slots: [(u32, u32); SLOTS],
    any: bool,
}

impl Found {
    /// An attribute's value was written to `start..end` of the text.
    #[inline]
    pub(super) fn attribute(&mut self, key: &[u8], start: usize, end: usize) {
        // Most keys end here.
        if !matches!(key.first(), Some(b'h' | b'r' | b'd' | b'e')) {
            return;
        }
        let slot = match key {
            b"http.request.method" => METHOD,
            b"http.method" => OLD_METHOD,
            b"http.route" => ROUTE,
            b"http.response.status_code" => STATUS,
            b"http.status_code" => OLD_STATUS,
            b"rpc.method" => RPC_METHOD,
            b"rpc.service" => RPC_SERVICE,
            b"db.system.name" => DB_SYSTEM,
            b"db.system" => OLD_DB_SYSTEM,
            b"error.type" => ERROR_TYPE,
            _ => return,
        };
        if self.slots[slot].1 == 0 {
            self.slots[slot] = (start as u32, end as u32);
            self.any = true;
        }
    }
}

/// The promoted columns.
#[derive(Debug, Default)]
pub(super) struct Promoted {
    pub(super) http_method: Column,
    pub(super) http_route: Column,
    pub(super) http_status: Vec<Option<i32>>,
    pub(super) rpc_method: Column,
    pub(super) db_system: Column,
    pub(super) error_type: Column,
}

/// A dictionary column that grows.
#[derive(Debug, Default)]
pub(super) struct Column {
    pub(super) keys: Vec<i32>,
    pub(super) values: Dictionary,
}

impl Column {
    fn push(&mut self, text: Option<&[u8]>) {
        let key = text.and_then(|text| self.values.key(shortened(text)).ok());
        self.keys.push(key.unwrap_or(NONE));
    }

    pub(super) fn finish(&mut self) -> arrow::array::ArrayRef {
        self.values.column(std::mem::take(&mut self.keys).into_iter())
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.keys.capacity() * 4 + self.values.memory_bytes()
    }
}

impl Promoted {
    /// One more row: what was found in `attributes`.
    pub(super) fn push(&mut self, found: &Found, attributes: &[u8]) {
        if !found.any {
            for column in self.columns() {
                column.keys.push(NONE);
            }
            self.http_status.push(None);
            return;
        }
        let text = |slot: usize| text(attributes, found.slots[slot]);
        let either = |new: usize, old: usize| text(new).or_else(|| text(old));
        self.http_method.push(either(METHOD, OLD_METHOD).as_deref());
        self.http_route.push(text(ROUTE).as_deref());
        let status = |slot: usize| status(attributes, found.slots[slot]);
        self.http_status.push(status(STATUS).or_else(|| status(OLD_STATUS)));
        self.rpc_method.push(rpc(text(RPC_SERVICE), text(RPC_METHOD)).as_deref());
        self.db_system.push(either(DB_SYSTEM, OLD_DB_SYSTEM).as_deref());
        self.error_type.push(text(ERROR_TYPE).as_deref());
    }

    pub(super) fn truncate(&mut self, rows: usize) {
        for column in self.columns() {
            column.keys.truncate(rows);
        }
        self.http_status.truncate(rows);
    }

    fn columns(&mut self) -> [&mut Column; 5] {
        [&mut self.http_method, &mut self.http_route, &mut self.rpc_method, &mut self.db_system, &mut self.error_type]
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let columns = [&self.http_method, &self.http_route, &self.rpc_method, &self.db_system, &self.error_type];
        columns.map(Column::memory_bytes).iter().sum::<usize>() + self.http_status.capacity() * 8
    }
}

/// `service/method`, whether it came so or in two attributes, as it did until semantic conventions 1.37.
fn rpc<'a>(
    service: Option<std::borrow::Cow<'a, [u8]>>,
    method: Option<std::borrow::Cow<'a, [u8]>>,
) -> Option<std::borrow::Cow<'a, [u8]>> {
    let method = method?;
    match service {
        Some(service) if !method.contains(&b'/') => Some([&service, &b"/"[..], &method].concat().into()),
        _ => Some(method),
    }
}

/// The string whose typed JSON stands in `range`; none if there is none, or another kind of value, or it is empty.
pub(super) fn text(attributes: &[u8], range: (u32, u32)) -> Option<std::borrow::Cow<'_, [u8]>> {
    let text = &attributes[range.0 as usize..range.1 as usize];
    let inner = text.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.is_empty() {
        return None;
    }
    if memchr::memchr(b'\\', inner).is_none() {
        return Some(inner.into());
    }
    let value = typed_json::value(std::str::from_utf8(text).ok()?).ok()?;
    value.as_str().map(|text| text.as_bytes().to_vec().into())
}

/// A status code: an integer, or a string of one, as a few instrumentations send it.
fn status(attributes: &[u8], range: (u32, u32)) -> Option<i32> {
    let value = std::str::from_utf8(&attributes[range.0 as usize..range.1 as usize]).ok()?;
    match value.parse() {
        Ok(status) => Some(status),
        Err(_) => match typed_json::value(value).ok()? {
            Value::String(text) => text.trim().parse().ok(),
            _ => None,
        },
    }
}

/// At most [`LONGEST`] bytes of `text` (UTF-8), whole characters.
fn shortened(text: &[u8]) -> &[u8] {
    if text.len() <= LONGEST {
        return text;
    }
    let is_start = |at: &usize| text[*at] & 0xc0 != 0x80;
    &text[..(0..=LONGEST).rev().find(is_start).unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, StringArray};
    use arrow::datatypes::Int32Type;

    /// One row of promoted values of these attributes: method, route, status, rpc, db, error.
    fn promoted(attributes: &[(&str, &str)]) -> (Vec<Option<String>>, Option<i32>) {
        let mut text = Vec::new();
        let mut found = Found::default();
        for (key, value) in attributes {
            text.push(b',');
            let start = text.len();
            text.extend_from_slice(value.as_bytes());
            found.attribute(key.as_bytes(), start, text.len());
        }
        let mut columns = Promoted::default();
        columns.push(&found, &text);
        let texts = columns.columns().map(|column| {
            let array = column.finish();
            let array = array.as_dictionary::<Int32Type>().downcast_dict::<StringArray>().unwrap().into_iter().next();
            array.flatten().map(str::to_owned)
        });
        (texts.to_vec(), columns.http_status[0])
    }

    #[test]
    fn new_names_win_and_old_ones_help() {
        let (texts, status) = promoted(&[
            ("http.method", r#""get""#),
            ("http.request.method", r#""GET""#),
            ("http.request.method", r#""second""#),
            ("http.route", r#""""#),
            ("http.status_code", r#""404""#),
            ("rpc.method", r#""Get""#),
            ("rpc.service", r#""shop.Cart""#),
            ("db.system", r#""a\"b""#),
            ("error.type", "7"),
        ]);
        let expected = [Some("GET"), None, Some("shop.Cart/Get"), Some("a\"b"), None];
        assert_eq!(texts, expected.map(|text| text.map(str::to_owned)));
        assert_eq!(status, Some(404));
        let (texts, status) = promoted(&[
            ("rpc.method", r#""shop.Cart/Get""#),
            ("rpc.service", r#""x""#),
            ("http.response.status_code", "500"),
            ("http.request.method", "null"),
            ("http.method", r#""PUT""#),
        ]);
        assert_eq!(texts[0].as_deref(), Some("PUT"));
        assert_eq!(texts[2].as_deref(), Some("shop.Cart/Get"));
        assert_eq!(status, Some(500));
        assert_eq!(promoted(&[]), (vec![None; 5], None));
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let long = "é".repeat(LONGEST);
        let cut = shortened(long.as_bytes());
        assert_eq!(cut.len(), LONGEST);
        assert_eq!(shortened(&long.as_bytes()[..LONGEST + 2][..]).len(), LONGEST);
        let odd = format!("a{long}");
        assert_eq!(shortened(odd.as_bytes()).len(), LONGEST - 1);
        assert!(std::str::from_utf8(shortened(odd.as_bytes())).is_ok());
    }
}
