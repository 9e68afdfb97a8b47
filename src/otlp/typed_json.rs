//! Typed JSON: attributes as JSON text that any SQL engine reads and that loses nothing.
//!
//! Strings, booleans, integers (any `i64`) and arrays are as in JSON. A double always has a point or an exponent; NaN
//! and the infinities are `{"$double":"NaN"}`. Bytes are `{"$bytes":"<base64>"}`. No value is `null`. A key given
//! twice stands twice. A nested key that begins with `$` gets one more.

/// A value of an attribute, borrowed from the text it stands in.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// A string.
    String(std::borrow::Cow<'a, str>),
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
    List(Vec<(std::borrow::Cow<'a, str>, Value<'a>)>),
    /// A value never set.
    None,
}

/// The attributes in `text` (an object of typed JSON, as our own writer made it), in order.
///
/// # Errors
/// If `text` is not typed JSON: the block was not written by us, or is damaged.
pub fn attributes(text: &str) -> crate::error::Result<Vec<(std::borrow::Cow<'_, str>, Value<'_>)>> {
    let _ = text;
    todo!()
}
