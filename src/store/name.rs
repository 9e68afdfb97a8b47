//! Names that the store's client cannot hold, made such that it can.
//!
//! Buckets and file systems allow names that [`object_store::path::Path`] refuses or silently changes: empty parts
//! (`a//b`, which Collectors do write), parts that are `.` or `..`, a slash at either end, control characters. One such
//! name would fail a whole listing. So odd parts are marked here before they reach the client, and the marks are taken
//! out again where a name leaves it: in a file's name ([`super::local`]), in a request's URL ([`super::connect`]).
//!
//! A mark is U+10FFFD (the last private-use character) and two characters: the hexadecimal digits of a byte, or `--`
//! for a part that is empty. U+10FFFD itself is marked byte by byte, so that every name has one marked form.

use object_store::path::Path;

/// Begins a mark.
pub(super) const MARK: char = '\u{10FFFD}';

/// Stands after [`MARK`] for an empty part.
pub(super) const EMPTY: &str = "--";

/// The client's path of the object named `name`.
pub(super) fn to_path(name: &str) -> Path {
    // `Path::parse` takes every marked name; `from` would percent-encode, which is another name.
    Path::parse(mark(name)).unwrap_or_else(|_| Path::from(name))
}

/// The name of the object at the client's path; `None` for one that is not UTF-8.
pub(super) fn of_path(path: &Path) -> Option<String> {
    String::from_utf8(unmark(path.as_ref())).ok()
}

/// The marked form of `name`, part by part.
pub(super) fn mark(name: &str) -> String {
    if name.is_empty() {
        return String::new();
    }
    let mut marked = String::with_capacity(name.len());
    for (i, part) in name.split('/').enumerate() {
        if i > 0 {
            marked.push('/');
        }
        mark_part(part.as_bytes(), &mut marked);
    }
    marked
}

/// Adds the marked form of one part of a name, which may be any bytes.
pub(super) fn mark_part(part: &[u8], marked: &mut String) {
    let byte = |byte: u8, marked: &mut String| {
        marked.push(MARK);
        let digit = |d: u8| char::from_digit(u32::from(d), 16).unwrap_or('0');
        marked.extend([digit(byte >> 4), digit(byte & 0xf)]);
    };
    match part {
        b"" => {
            marked.push(MARK);
            marked.push_str(EMPTY);
        }
        b"." | b".." => part.iter().for_each(|&b| byte(b, marked)),
        _ => {
            for chunk in part.utf8_chunks() {
                for c in chunk.valid().chars() {
                    if c.is_ascii_control() || c == MARK {
                        c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| byte(b, marked));
                    } else {
                        marked.push(c);
                    }
                }
                chunk.invalid().iter().for_each(|&b| byte(b, marked));
            }
        }
    }
}

/// The bytes that `marked` stands for.
pub(super) fn unmark(marked: &str) -> Vec<u8> {
    let mut parts = marked.split(MARK);
    let mut name = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2) {
            Some(EMPTY) => name.extend(&part.as_bytes()[2..]),
            Some(digits) if let Ok(byte) = u8::from_str_radix(digits, 16) => {
                name.push(byte);
                name.extend(&part.as_bytes()[2..]);
            }
            // Not a mark of ours: nothing that was marked reads so, but a foreign name may.
            _ => {
                name.extend(MARK.encode_utf8(&mut [0; 4]).as_bytes());
                name.extend(part.as_bytes());
            }
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn usual_names_are_left_as_they_are() {
        for name in ["inbox/year=2026/a b%2Fé\u{202e}.json", "site/handlers/web/a~b-00000000/summary.json", " x ", ""]
        {
            assert_eq!(mark(name), name);
            assert_eq!(to_path(name).as_ref(), name);
        }
    }

    #[test]
    fn odd_names_pass_through_the_client() {
        for name in ["a//b", "/a", "a/", "/", "//", "./a", "a/../b", "a\nb", "\u{10FFFD}41", "\u{10FFFD}", "\0"] {
            let path = to_path(name);
            assert_eq!(of_path(&path).as_deref(), Some(name), "{path:?}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_have_a_mark_but_no_name() {
        let mut marked = String::new();
        mark_part(b"caf\xe9", &mut marked);
        assert_eq!(unmark(&marked), b"caf\xe9");
        assert_eq!(of_path(&Path::parse(&marked).unwrap()), None);
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in any::<String>(), other in any::<String>()) {
            let name = name.replace('a', "/");
            prop_assert_eq!(of_path(&to_path(&name)), Some(name.clone()));
            prop_assert_eq!(name == other, to_path(&name) == to_path(&other));
        }
    }
}
