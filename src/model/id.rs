//! Trace and span ids, as the W3C Trace Context recommendation defines them (section 3.2.2).

use std::fmt;
use std::str::FromStr;

use super::ParseError;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// All zeros: the protocol's way to say that there is none.
            pub const ZERO: Self = Self([0; $bytes]);

            /// Whether this is the id that means "none".
            pub fn is_zero(&self) -> bool {
                *self == Self::ZERO
            }

            /// The id in `bytes`, if they are as many as an id has.
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(text: &str) -> Result<Self, ParseError> {
                let bad = || ParseError::new(text, $expected);
                if text.len() != 2 * $bytes || !text.is_ascii() {
                    return Err(bad());
                }
                let mut id = [0; $bytes];
                for (byte, digits) in id.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let digit = |d: u8| (d as char).to_digit(16).map(|d| d as u8);
                    let (Some(high), Some(low)) = (digit(digits[0]), digit(digits[1])) else {
                        return Err(bad());
                    };
                    *byte = high << 4 | low;
                }
                Ok(Self(id))
            }
        }
    };
}

hex_id!(
    /// Identifies a trace, eg `4bf92f3577b34da6a3ce929d0e0e4736`.
    TraceId, 16, "a trace id (32 hexadecimal digits)"
);
hex_id!(
    /// Identifies a span within its trace, eg `00f067aa0ba902b7`.
    SpanId, 8, "a span id (16 hexadecimal digits)"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_as_it_parses_and_takes_either_case() {
        let id: TraceId = "4BF92f3577b34da6a3ce929d0e0e4736".parse().unwrap();
        assert_eq!(id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!("4bf9".parse::<TraceId>().is_err());
        assert!("+bf92f3577b34da6".parse::<SpanId>().is_err());
        assert!("é0f067aa0ba902b".parse::<SpanId>().is_err());
    }
}
