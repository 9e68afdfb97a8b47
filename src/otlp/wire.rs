//! The protobuf wire format, read where it lies.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>. Like prost: varints of up to ten bytes, canonical or
//! not; field numbers from 1; unknown fields are skipped. Unlike prost: groups are refused, as OTLP never had any.

use super::bad::{Problem, Read, problem, reason};

/// A field's payload.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

impl Field<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Varint(_) => "a varint",
            Self::Fixed64(_) => "64 bits",
            Self::Fixed32(_) => "32 bits",
            Self::Bytes(_) => "bytes",
        }
    }
}

/// The fields of one message, in order.
#[derive(Clone, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    /// The last field, if it claims to be longer than the message: its number and as much of it as there is.
    pub(super) cut: Option<(u32, &'a [u8])>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(message: &'a [u8]) -> Self {
        Self { rest: message, cut: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Where the next byte stands: an address, to be compared with that of the message.
    pub(super) fn address(&self) -> usize {
        self.rest.as_ptr().addr()
    }

    /// The next field's number and payload.
    #[inline]
    pub(super) fn next(&mut self) -> Read<Option<(u32, Field<'a>)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let number = (tag >> 3) as u32;
        if tag > u64::from(u32::MAX) || number == 0 {
            return Err(self.malformed(format!("{tag} is no field's tag")));
        }
        let field = match tag & 7 {
            0 => Field::Varint(self.varint()?),
            1 => Field::Fixed64(u64::from_le_bytes(self.take()?)),
            2 => {
                let length = self.varint()?;
                let Some((payload, rest)) =
                    usize::try_from(length).ok().and_then(|length| self.rest.split_at_checked(length))
                else {
                    self.cut = Some((number, self.rest));
                    return Err(self.overrun(number, length));
                };
                self.rest = rest;
                Field::Bytes(payload)
            }
            5 => Field::Fixed32(u32::from_le_bytes(self.take()?)),
            3 | 4 => return Err(self.malformed(format!("field {number} is a group, which OTLP does not have"))),
            other => {
                return Err(self.malformed(format!("field {number} has the wire type {other}, which does not exist")));
            }
        };
        Ok(Some((number, field)))
    }

    #[inline]
    fn varint(&mut self) -> Read<u64> {
        if let [byte, rest @ ..] = self.rest
            && *byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Read<u64> {
        match varint(self.rest) {
            Varint::Number(number, length) => {
                self.rest = &self.rest[length..];
                Ok(number)
            }
            Varint::TooLong => Err(self.malformed("a number of more than 64 bits".to_owned())),
            Varint::Cut => Err(self.ended()),
        }
    }

    #[inline]
    fn take<const N: usize>(&mut self) -> Read<[u8; N]> {
        let Some((bytes, rest)) = self.rest.split_first_chunk::<N>() else { return Err(self.ended()) };
        self.rest = rest;
        Ok(*bytes)
    }

    #[cold]
    fn ended(&self) -> Box<Problem> {
        problem(reason::TRUNCATED, self.address(), "it ends within a field")
    }

    #[cold]
    fn overrun(&self, number: u32, length: u64) -> Box<Problem> {
        let message =
            format!("field {number} says that it is {length} bytes long, but only {} are left", self.rest.len());
        problem(reason::TRUNCATED, self.address(), message)
    }

    #[cold]
    fn malformed(&self, message: String) -> Box<Problem> {
        problem(reason::MALFORMED, self.address(), format!("not protobuf: {message}"))
    }

    /// The problem of a known field of an unexpected wire type.
    #[cold]
    pub(super) fn unexpected(&self, message: &str, number: u32, field: &Field<'_>) -> Box<Problem> {
        self.malformed(format!("field {number} of {message} cannot be {}", field.kind()))
    }
}

/// The varint at the beginning of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Varint {
    /// Its value and how many bytes it takes.
    Number(u64, usize),
    /// The bytes end within it.
    Cut,
    /// It has more than 64 bits.
    TooLong,
}

/// Reads a varint.
pub(super) fn varint(bytes: &[u8]) -> Varint {
    let mut number = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        if at == 9 && *byte > 1 {
            return Varint::TooLong;
        }
        number |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return Varint::Number(number, at + 1);
        }
    }
    if bytes.len() < 10 { Varint::Cut } else { Varint::TooLong }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_are_kept() {
        assert_eq!(varint(&[0xff; 9]), Varint::Cut);
        assert_eq!(varint(&[0xff; 10]), Varint::TooLong);
        assert_eq!(varint(&[0x80, 0x80, 0x00, 7]), Varint::Number(0, 3), "not canonical, but allowed");
        for bad in
            [&[0x00, 0x01][..], &[0x0b], &[0x0c], &[0x0f], &[0x0e], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], &[0x09, 1]]
        {
            assert!(Fields::new(bad).next().is_err(), "{bad:?}");
        }
        let mut cut = Fields::new(&[0x0a, 5, 1, 2]);
        assert!(cut.next().is_err());
        assert_eq!(cut.cut, Some((1, &[1, 2][..])));
    }

    proptest! {
        #[test]
        fn varints_are_those_of_prost(number in any::<u64>(), shift in 0..64u32, tail in any::<u8>()) {
            let number = number >> shift;
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(number, &mut bytes);
            let length = bytes.len();
            bytes.push(tail);
            prop_assert_eq!(varint(&bytes), Varint::Number(number, length));
        }
    }
}
