//! A reader of the text that [`super::write`] makes: strings are borrowed where nothing is escaped.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Attributes, MAX_DEPTH, Value};

/// What is wrong, and where.
pub(super) struct Bad {
    pub(super) at: usize,
    pub(super) what: &'static str,
}

type Read<T> = Result<T, Bad>;

pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Nothing but white space is left.
    pub(super) fn end(&mut self) -> Read<()> {
        if self.peek() == 0 && self.at == self.text.len() { Ok(()) } else { Err(self.bad("more text after the value")) }
    }

    pub(super) fn attributes(&mut self) -> Read<Attributes<'a>> {
        let mut attributes = Vec::new();
        self.pairs(|reader, key| {
            let value = reader.value(1)?;
            attributes.push((key, value));
            Ok(())
        })?;
        Ok(attributes)
    }

    pub(super) fn value(&mut self, depth: usize) -> Read<Value<'a>> {
        if depth > MAX_DEPTH {
            return Err(self.bad("values nest too deep"));
        }
        match self.peek() {
            b'"' => self.string().map(Value::String),
            b'{' => self.list(depth),
            b'[' => {
                let mut values = Vec::new();
                self.elements(|reader| {
                    values.push(reader.value(depth + 1)?);
                    Ok(())
                })?;
                Ok(Value::Array(values))
            }
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::None),
            _ => self.number(),
        }
    }

    /// A key-value list, or what a key that begins with one `$` stands for.
    fn list(&mut self, depth: usize) -> Read<Value<'a>> {
        let mut list = Vec::new();
        let mut special = None;
        self.pairs(|reader, key| {
            let key = match key.strip_prefix('$') {
                None => key,
                Some(rest) if rest.starts_with('$') => unescaped(key),
                Some("double") => {
                    special = Some(reader.special_double()?);
                    return Ok(());
                }
                Some("bytes") => {
                    special = Some(reader.bytes()?);
                    return Ok(());
                }
                Some(_) => return Err(reader.bad("an unknown key that begins with `$`")),
            };
            let value = reader.value(depth + 1)?;
            list.push((key, value));
            Ok(())
        })?;
        match special {
            None => Ok(Value::List(list)),
            Some(value) if list.is_empty() => Ok(value),
            Some(_) => Err(self.bad("keys beside one that begins with `$`")),
        }
    }

    fn special_double(&mut self) -> Read<Value<'a>> {
        match &*self.string()? {
            "NaN" => Ok(Value::Double(f64::NAN)),
            "Infinity" => Ok(Value::Double(f64::INFINITY)),
            "-Infinity" => Ok(Value::Double(f64::NEG_INFINITY)),
            _ => Err(self.bad("an unknown `$double`")),
        }
    }

    fn bytes(&mut self) -> Read<Value<'a>> {
        let text = self.string()?;
        STANDARD.decode(text.as_bytes()).map(Value::Bytes).map_err(|_| self.bad("`$bytes` that are not base64"))
    }

    pub(super) fn array<T>(&mut self, mut element: impl FnMut(&mut Self) -> Read<T>) -> Read<Vec<T>> {
        let mut values = Vec::new();
        self.elements(|reader| {
            values.push(element(reader)?);
            Ok(())
        })?;
        Ok(values)
    }

    pub(super) fn object(&mut self, mut field: impl FnMut(&mut Self, &str) -> Read<()>) -> Read<()> {
        self.pairs(|reader, key| field(reader, &key))
    }

    pub(super) fn unknown<T>(&self, _key: &str) -> Read<T> {
        Err(self.bad("an unknown field"))
    }

    pub(super) fn unsigned(&mut self) -> Read<u64> {
        let start = self.number_text()?;
        self.text[start..self.at].parse().map_err(|_| Bad { at: start, what: "not an unsigned number" })
    }

    pub(super) fn count(&mut self) -> Read<u32> {
        let start = self.at;
        u32::try_from(self.unsigned()?).map_err(|_| Bad { at: start, what: "a count above 32 bits" })
    }

    /// `[`, elements, `]`.
    fn elements(&mut self, mut element: impl FnMut(&mut Self) -> Read<()>) -> Read<()> {
        self.expect(b'[', "expected an array")?;
        if self.peek() == b']' {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            match self.peek() {
                b',' => self.at += 1,
                b']' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.bad("expected `,` or `]`")),
            }
        }
    }

    /// `{`, keys with values, `}`.
    fn pairs(&mut self, mut pair: impl FnMut(&mut Self, Cow<'a, str>) -> Read<()>) -> Read<()> {
        self.expect(b'{', "expected an object")?;
        if self.peek() == b'}' {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':', "expected `:`")?;
            pair(self, key)?;
            match self.peek() {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.bad("expected `,` or `}`")),
            }
        }
    }

    /// `{`, keys with values, `}`: values are stepped over and handed out as text.
    pub(super) fn visit(&mut self, mut visit: impl FnMut(&str, &'a str)) -> Read<()> {
        self.pairs(|reader, key| {
            reader.peek();
            let start = reader.at;
            reader.skip()?;
            visit(&key, &reader.text[start..reader.at]);
            Ok(())
        })
    }

    /// Steps over a value, looking no closer than it must to find its end.
    fn skip(&mut self) -> Read<()> {
        match self.peek() {
            b'"' => self.skip_string(),
            b'{' | b'[' => {
                let mut depth = 0_usize;
                loop {
                    match self.peek() {
                        b'"' => {
                            self.skip_string()?;
                            continue;
                        }
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' => depth -= 1,
                        _ if self.at == self.text.len() => return Err(self.bad("a value without an end")),
                        _ => {}
                    }
                    self.at += 1;
                    if depth == 0 {
                        return Ok(());
                    }
                }
            }
            _ => {
                let rest = &self.text.as_bytes()[self.at..];
                let length =
                    rest.iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ')).unwrap_or(rest.len());
                self.at += length;
                if length == 0 { Err(self.bad("expected a value")) } else { Ok(()) }
            }
        }
    }

    fn skip_string(&mut self) -> Read<()> {
        self.at += 1;
        loop {
            let Some(length) = memchr::memchr2(b'"', b'\\', &self.text.as_bytes()[self.at..]) else {
                return Err(self.bad("a string without an end"));
            };
            self.at += length + 1;
            if self.text.as_bytes()[self.at - 1] == b'"' {
                return Ok(());
            }
            // The escaped character is of one byte: our writer and JSON know no others.
            self.at = (self.at + 1).min(self.text.len());
        }
    }

    fn word(&mut self, word: &str, value: Value<'a>) -> Read<Value<'a>> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.bad("an unknown word"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn number(&mut self) -> Read<Value<'a>> {
        let start = self.number_text()?;
        let text = &self.text[start..self.at];
        let bad = |_| Bad { at: start, what: "a number that cannot be read" };
        if text.bytes().any(|byte| matches!(byte, b'.' | b'e' | b'E')) {
            text.parse().map(Value::Double).map_err(|_| bad(()))
        } else {
            text.parse().map(Value::Int).map_err(|_| bad(()))
        }
    }

    /// Steps over the characters of a number; where it began.
    fn number_text(&mut self) -> Read<usize> {
        self.peek();
        let start = self.at;
        let rest = &self.text.as_bytes()[start..];
        let is_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        self.at += rest.iter().position(|byte| !is_number(byte)).unwrap_or(rest.len());
        if self.at == start { Err(self.bad("expected a value")) } else { Ok(start) }
    }

    pub(super) fn string(&mut self) -> Read<Cow<'a, str>> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let Some(length) = memchr::memchr2(b'"', b'\\', &self.text.as_bytes()[start..]) else {
            return Err(self.bad("a string without an end"));
        };
        self.at = start + length;
        if self.text.as_bytes()[self.at] == b'"' {
            self.at += 1;
            return Ok(Cow::Borrowed(&self.text[start..self.at - 1]));
        }
        let mut text = self.text[start..self.at].to_owned();
        loop {
            self.at += 1;
            text.push(self.escape()?);
            let Some(length) = memchr::memchr2(b'"', b'\\', &self.text.as_bytes()[self.at..]) else {
                return Err(self.bad("a string without an end"));
            };
            text.push_str(&self.text[self.at..self.at + length]);
            self.at += length;
            if self.text.as_bytes()[self.at] == b'"' {
                self.at += 1;
                return Ok(Cow::Owned(text));
            }
        }
    }

    /// What stands after a backslash.
    fn escape(&mut self) -> Read<char> {
        let byte = self.text.as_bytes().get(self.at).copied().unwrap_or(0);
        let character = match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            // Our writer escapes control characters alone this way: surrogates never come from it.
            b'u' => {
                let digits = self.text.as_bytes().get(self.at + 1..self.at + 5).unwrap_or_default();
                let code = std::str::from_utf8(digits).ok().and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let Some(character) = code.and_then(char::from_u32) else { return Err(self.bad("a bad escape")) };
                self.at += 4;
                character
            }
            _ => return Err(self.bad("a bad escape")),
        };
        self.at += 1;
        Ok(character)
    }

    /// The next byte that is not white space; 0 at the end.
    fn peek(&mut self) -> u8 {
        while let Some(byte) = self.text.as_bytes().get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return *byte;
            }
            self.at += 1;
        }
        0
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Read<()> {
        if self.peek() != byte || self.at == self.text.len() {
            return Err(self.bad(what));
        }
        self.at += 1;
        // A key or value may follow white space.
        Ok(())
    }

    fn bad(&self, what: &'static str) -> Bad {
        Bad { at: self.at, what }
    }
}

/// A nested key without the `$` that was put before it.
fn unescaped(key: Cow<'_, str>) -> Cow<'_, str> {
    match key {
        Cow::Borrowed(key) => Cow::Borrowed(&key[1..]),
        Cow::Owned(key) => Cow::Owned(key[1..].to_owned()),
    }
}
