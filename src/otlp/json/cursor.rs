//! A place in JSON text: pulls values with jiter, and can step over anything and begin again anywhere.

use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};

use super::super::bad::{Problem, Read, problem, reason};

pub(super) struct Cursor<'j> {
    text: &'j [u8],
    jiter: Jiter<'j>,
    /// Where the text that jiter sees begins.
    base: usize,
}

impl<'j> Cursor<'j> {
    pub(super) fn new(text: &'j [u8]) -> Self {
        Self { text, jiter: Jiter::new(text), base: 0 }
    }

    /// Where the next byte stands.
    pub(super) fn at(&self) -> usize {
        self.base + self.jiter.current_index()
    }

    /// Goes on at `at`, which is behind a value.
    pub(super) fn seek(&mut self, at: usize) {
        let tape = std::mem::replace(&mut self.jiter, Jiter::new(&[])).into_tape();
        self.jiter = Jiter::with_tape(&self.text[at..], tape);
        self.base = at;
    }

    /// Steps over the next value, however deep; its text. Nothing but brackets and quotes is looked at.
    pub(super) fn skip(&mut self) -> Read<&'j [u8]> {
        self.peek()?;
        let start = self.at();
        let end = skip(self.text, start)?;
        self.seek(end);
        Ok(&self.text[start..end])
    }

    /// Steps over the value that begins at `start`, wherever we are in it.
    pub(super) fn skip_at(&mut self, start: usize) -> Read<()> {
        let end = skip(self.text, start)?;
        self.seek(end);
        Ok(())
    }

    #[inline]
    pub(super) fn peek(&mut self) -> Read<Peek> {
        self.jiter.peek().map_err(|error| bad(self.base, &error))
    }

    /// Whether the next value is `null`, which is stepped over then.
    #[inline]
    pub(super) fn null(&mut self) -> Read<bool> {
        if self.peek()? != Peek::Null {
            return Ok(false);
        }
        self.jiter.known_null().map_err(|error| bad(self.base, &error))?;
        Ok(true)
    }

    /// The fields of an object, or none of `null`. `name` tells what a key is; `field` has to take the value.
    pub(super) fn object<K>(
        &mut self,
        name: fn(&str) -> K,
        mut field: impl FnMut(&mut Self, K) -> Read<()>,
    ) -> Read<()> {
        if self.null()? {
            return Ok(());
        }
        let mut key = self.jiter.next_object().map_err(|error| bad(self.base, &error))?.map(name);
        while let Some(known) = key {
            field(self, known)?;
            key = self.jiter.next_key().map_err(|error| bad(self.base, &error))?.map(name);
        }
        Ok(())
    }

    /// The elements of an array, or none of `null`. `element` has to take the value.
    pub(super) fn array(&mut self, mut element: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        if self.null()? {
            return Ok(());
        }
        let mut next = self.jiter.next_array().map_err(|error| bad(self.base, &error))?;
        while next.is_some() {
            element(self)?;
            next = self.jiter.array_step().map_err(|error| bad(self.base, &error))?;
        }
        Ok(())
    }

    /// A string; `null` is the empty one.
    #[inline]
    pub(super) fn string(&mut self) -> Read<&str> {
        if self.null()? {
            return Ok("");
        }
        let base = self.base;
        self.jiter.next_str().map_err(|error| bad(base, &error))
    }

    /// A boolean, maybe as a string.
    pub(super) fn boolean(&mut self) -> Read<bool> {
        let start = self.at();
        if self.peek()? == Peek::String {
            return match self.string()? {
                "true" => Ok(true),
                "false" => Ok(false),
                _ => Err(problem(reason::BAD_VALUE, start, "a string where a boolean should be")),
            };
        }
        self.jiter.next_bool().map_err(|error| bad(self.base, &error))
    }

    /// The text of a number, maybe in a string.
    fn number_text(&mut self) -> Read<&str> {
        let base = self.base;
        let start = self.at();
        if self.peek()? == Peek::String {
            return self.string();
        }
        let bytes = self.jiter.next_number_bytes().map_err(|error| bad(base, &error))?;
        std::str::from_utf8(bytes).map_err(|_| problem(reason::MALFORMED, start, "not a number"))
    }

    /// A whole number in the range of `T`: in digits, as exporters write it, or as a fraction or power that is whole
    /// (`1.0`, `1e3`), which JSON's mapping of protobuf allows. `null` is zero.
    pub(super) fn integer<T: TryFrom<i128> + Default>(&mut self) -> Read<T> {
        if self.null()? {
            return Ok(T::default());
        }
        let start = self.at();
        let text = self.number_text()?;
        let number = text.parse::<i128>().ok().or_else(|| whole(text)).and_then(|number| T::try_from(number).ok());
        let message = || format!("`{text:.40}` is not a whole number in the range of this field");
        number.ok_or_else(|| problem(reason::BAD_VALUE, start, message()))
    }

    /// A double, rounded correctly; maybe in a string, as `NaN` and the infinities have to be.
    pub(super) fn double(&mut self) -> Read<f64> {
        if self.peek()?.is_num() {
            let start = self.at();
            let number = self.jiter.next_float().map_err(|error| bad(self.base, &error))?;
            if number.is_finite() {
                return Ok(number);
            }
            return Err(problem(reason::BAD_VALUE, start, "a number above what a double can hold"));
        }
        let start = self.at();
        let text = self.number_text()?;
        let not_finite = matches!(text, "NaN" | "Infinity" | "-Infinity");
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() || not_finite => Ok(number),
            _ => Err(problem(reason::BAD_VALUE, start, format!("`{text:.40}` is not a double"))),
        }
    }
}

/// A number with a point or an exponent, if it is whole and no digit of it was lost.
fn whole(text: &str) -> Option<i128> {
    let number = text.parse::<f64>().ok()?;
    (number.fract() == 0.0 && number.abs() < (1u64 << 53) as f64).then_some(number as i128)
}

#[cold]
fn bad(base: usize, error: &JiterError) -> Box<Problem> {
    use JsonErrorType as Json;

    let (reason, message) = match &error.error_type {
        JiterErrorType::WrongType { expected, actual } => {
            (reason::BAD_VALUE, format!("expected {expected}, found {actual}"))
        }
        JiterErrorType::JsonError(json) => match json {
            Json::EofWhileParsingList
            | Json::EofWhileParsingObject
            | Json::EofWhileParsingString
            | Json::EofWhileParsingValue => (reason::TRUNCATED, ENDS.to_owned()),
            Json::InvalidUnicodeCodePoint => (reason::BAD_TEXT, "a string is not UTF-8".to_owned()),
            Json::LoneLeadingSurrogateInHexEscape | Json::UnexpectedEndOfHexEscape => {
                (reason::BAD_TEXT, "a string holds half of a surrogate pair".to_owned())
            }
            Json::NumberOutOfRange => (reason::BAD_VALUE, "a number is out of range".to_owned()),
            other => (reason::MALFORMED, format!("not JSON: {other}")),
        },
    };
    problem(reason, base + error.index, message)
}

const ENDS: &str = "the JSON document ends in the middle";

/// Where the value ends that begins at `at` or behind white space there.
fn skip(text: &[u8], mut at: usize) -> Read<usize> {
    let mut open = Vec::new();
    loop {
        let Some(byte) = text.get(at) else { return Err(problem(reason::TRUNCATED, text.len(), ENDS)) };
        at += 1;
        match byte {
            b'"' => at = string_end(text, at)?,
            b'{' => open.push(b'}'),
            b'[' => open.push(b']'),
            b'}' | b']' => {
                if open.pop() != Some(*byte) {
                    let message = format!("not JSON: a `{}` that closes nothing", char::from(*byte));
                    return Err(problem(reason::MALFORMED, at - 1, message));
                }
            }
            b' ' | b'\t' | b'\n' | b'\r' | b',' | b':' => continue,
            // A number or a word.
            _ if open.is_empty() => {
                let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | b',' | b'}' | b']');
                at += text[at..].iter().position(is_end).unwrap_or(text.len() - at);
            }
            _ => continue,
        }
        if open.is_empty() {
            return Ok(at);
        }
    }
}

/// Behind the closing quote of a string whose opening one stands before `at`.
fn string_end(text: &[u8], mut at: usize) -> Read<usize> {
    loop {
        match memchr::memchr2(b'"', b'\\', &text[at..]) {
            None => return Err(problem(reason::TRUNCATED, text.len(), ENDS)),
            Some(length) if text[at + length] == b'"' => return Ok(at + length + 1),
            Some(length) => at = (at + length + 2).min(text.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_can_be_stepped_over() {
        let deep = format!("{}{}", "[{\"a\":".repeat(50_000), "1}]".repeat(50_000));
        for value in ["1.5e3", "true", r#""a\"]\\""#, "{}", r#"{"a":[1,"}"],"b":{}}"#, &deep] {
            let text = format!(" {value} ,1");
            assert_eq!(skip(text.as_bytes(), 0).unwrap(), value.len() + 1, "{value:.20}");
        }
        for (text, expected) in [
            ("[1", reason::TRUNCATED),
            ("\"a\\", reason::TRUNCATED),
            ("[}", reason::MALFORMED),
            ("", reason::TRUNCATED),
        ] {
            assert_eq!(skip(text.as_bytes(), 0).unwrap_err().reason, expected);
        }
    }

    #[test]
    fn numbers_are_read_as_exporters_and_the_mapping_write_them() {
        let integer = |text: &str| Cursor::new(text.as_bytes()).integer::<i64>().ok();
        assert_eq!(integer("\"-9223372036854775808\""), Some(i64::MIN));
        assert_eq!(integer("9223372036854775807"), Some(i64::MAX));
        assert_eq!(integer("9223372036854775808"), None);
        assert_eq!(integer("1e3"), Some(1000));
        assert_eq!(integer("\"1.0\""), Some(1));
        assert_eq!(integer("1.5"), None);
        assert_eq!(integer("9007199254740993.0"), None, "a digit would be lost");
        assert_eq!(integer("null"), Some(0));
        assert_eq!(integer("\"\""), None);
        assert_eq!(Cursor::new(b"18446744073709551615").integer::<u64>().ok(), Some(u64::MAX));
        assert_eq!(Cursor::new(b"-1").integer::<u32>().ok(), None);
    }

    #[test]
    fn doubles_are_rounded_correctly() {
        // Halfway cases, subnormals, and the numbers that broke other parsers.
        for text in [
            "2.2250738585072011e-308",
            "2.2250738585072012e-308",
            "9007199254740993",
            "9007199254740992.9999999999999999999999999999",
            "1.00000000000000011102230246251565404236316680908203125",
            "1.00000000000000011102230246251565404236316680908203124",
            "1.00000000000000011102230246251565404236316680908203126",
            "4.9e-324",
            "2.4703282292062327208e-324",
            "2.4703282292062328e-324",
            "1.7976931348623157e308",
            "0.1e-400",
            "123456789012345678901234567890",
            "8.5e-5",
            "-0.0",
            "6.02214076e23",
        ] {
            let expected: f64 = text.parse().unwrap();
            let got = Cursor::new(text.as_bytes()).double().unwrap();
            assert_eq!(got.to_bits(), expected.to_bits(), "{text}");
            let quoted = format!("\"{text}\"");
            assert_eq!(Cursor::new(quoted.as_bytes()).double().unwrap().to_bits(), expected.to_bits());
        }
        assert!(Cursor::new(b"\"NaN\"").double().unwrap().is_nan());
        assert_eq!(Cursor::new(b"\"-Infinity\"").double().unwrap(), f64::NEG_INFINITY);
        for bad in ["1e999", "\"1e999\"", "\"inf\"", "NaN", "\"\"", "true"] {
            assert!(Cursor::new(bad.as_bytes()).double().is_err(), "{bad}");
        }
    }
}
