//! The names of extras: files that a user's own program wrote.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stays as it is, beside letters and digits: the rest is escaped, so that names with line breaks, quotes or
/// right-to-left marks are harmless in a shell and on a page.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The longest part between slashes, escaped: file systems allow 255 bytes a name, and a store of files adds some.
const LONGEST_PART: usize = 200;

/// The longest name, escaped. S3, GCS and Azure allow 1,024 bytes a key; a handler's folder takes up to 420 of them.
const LONGEST: usize = 500;

/// The name of an extra below its handler's `extra/`, eg `img/flame.svg`: relative, `/` between its parts, none of them
/// empty, `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ExtraName(String);

impl ExtraName {
    /// The name, if it can be one.
    ///
    /// # Errors
    /// Why not, as the end of a sentence that begins with the name.
    pub fn new(name: &str) -> Result<Self, &'static str> {
        let name = Self(name.to_owned());
        let escaped = name.to_string();
        if name.0.split('/').any(|part| matches!(part, "" | "." | "..")) {
            Err("is not a relative path of plain names")
        } else if escaped.len() > LONGEST || escaped.split('/').any(|part| part.len() > LONGEST_PART) {
            Err("is too long a name")
        } else {
            Ok(name)
        }
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of which [`fmt::Display`] made `escaped`.
    pub(super) fn read(escaped: &str) -> Option<Self> {
        Self::new(&percent_decode_str(escaped).decode_utf8().ok()?).ok()
    }
}

/// Escaped, as it stands in a key.
impl fmt::Display for ExtraName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.0.split('/').enumerate() {
            if number > 0 {
                f.write_str("/")?;
            }
            utf8_percent_encode(part, ESCAPED).fmt(f)?;
        }
        Ok(())
    }
}
