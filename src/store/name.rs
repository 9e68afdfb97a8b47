//! Names that the store's client cannot hold, made such that it can.
//!
//! Buckets and file systems allow names that [`object_store::path::Path`] refuses or silently changes: empty parts
//! (`a//b`, which Collectors do write), parts that are `.` or `..`, a slash at either end, control characters. One such
//! name would fail a whole listing. So odd parts are marked here before they reach the client, and the marks are taken
//! out again where a name leaves it: in a file's name ([`super::local`]), in a request's URL ([`super::connect`]).
//!
//! A mark is U+10FFFD (the last private-use character) and two characters: the hexadecimal digits of a byte, or `--`
//! for a part that is empty. U+10FFFD itself is marked byte by byte, so that every name has one marked form.

use std::borrow::Cow;

use bytes::Bytes;
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
        // Capitals: with these a signature of a URL is the same for everybody (RFC 3986, section 2.1).
        let digit = |d: u8| char::from_digit(u32::from(d), 16).unwrap_or('0').to_ascii_uppercase();
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

/// [`MARK`] as it stands in URLs.
const MARK_IN_URI: &str = "%F4%8F%BF%BD";

/// A URL with the names that its marks stand for; `None` if it has none.
pub(super) fn unmark_uri(path: &str, query: Option<&str>) -> Option<String> {
    let unmark = |text: &str| {
        let mut parts = text.split(MARK_IN_URI);
        let mut unmarked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            // The GCS client escapes the hyphens, too.
            if let Some(rest) = part.strip_prefix(EMPTY).or_else(|| part.strip_prefix("%2D%2D")) {
                unmarked.push_str(rest);
            } else {
                unmarked.push('%');
                unmarked.push_str(part);
            }
        }
        unmarked
    };
    let has_marks = path.contains(MARK_IN_URI) || query.is_some_and(|query| query.contains(MARK_IN_URI));
    has_marks.then(|| match query {
        Some(query) => format!("{}?{}", unmark(path), unmark(query)),
        None => unmark(path),
    })
}

/// A page of a listing in which odd names are marked: of S3 and GCS (`<Key>`) or Azure (`<Name>`).
pub(super) fn mark_page(page: Bytes) -> Bytes {
    let Ok(xml) = std::str::from_utf8(&page) else { return page };
    let mut marked = String::new();
    let mut rest = xml;
    while let Some((before, name, after)) = next_name(rest) {
        if let Some(odd) = mark_in_page(name) {
            marked.push_str(before);
            marked.push_str(&odd);
            rest = after;
        } else if marked.is_empty() && !may_be_odd(after) {
            // By far the most pages.
            return page;
        } else {
            marked.push_str(before);
            marked.push_str(name);
            rest = after;
        }
    }
    if marked.is_empty() {
        return page;
    }
    marked.push_str(rest);
    marked.into()
}

/// What stands before the next name, the name, and what stands after it.
fn next_name(xml: &str) -> Option<(&str, &str, &str)> {
    let (open, close) =
        [("<Key>", "</Key>"), ("<Name>", "</Name>")].into_iter().find(|(open, _)| xml.contains(open))?;
    let start = xml.find(open)? + open.len();
    let end = start + xml[start..].find(close)?;
    Some((&xml[..start], &xml[start..end], &xml[end..]))
}

/// Whether a page may have odd names: a quick look, which finds all of them.
fn may_be_odd(xml: &str) -> bool {
    ["//", "/.", ">/", "/</", ">.", "&#", "> ", " </", "\u{10FFFD}"].iter().any(|sign| xml.contains(sign))
        || xml.bytes().any(|b| b.is_ascii_control() && b != b'\n' && b != b'\r')
}

/// The marked form of a name as it stands in a page, if it is not the name itself. Spaces at its ends are marked, too:
/// XML readers drop them.
fn mark_in_page(name: &str) -> Option<String> {
    let plain: Cow<'_, str> = quick_xml::escape::unescape(name).ok()?;
    let mut marked = mark(&plain);
    if marked.ends_with(' ') {
        marked.pop();
        marked.push(MARK);
        marked.push_str("20");
    }
    if marked.starts_with(' ') {
        marked.replace_range(..1, &format!("{MARK}20"));
    }
    (marked != plain).then(|| quick_xml::escape::escape(marked).into_owned())
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
    fn pages_and_urls_carry_true_names() {
        let page = |names: &[&str]| {
            let keys: String = names.iter().map(|name| format!("<Contents><Key>{name}</Key></Contents>\n")).collect();
            Bytes::from(format!("<?xml version=\"1.0\"?><R><Name>bucket</Name>{keys}<Is>x//y</Is></R>"))
        };
        let usual = page(&["a/b.json", "a&amp;b"]);
        assert_eq!(mark_page(usual.clone()), usual);
        let odd = mark_page(page(&["a/b", "a//b&amp;c", "/x", "dir/", " y ", "a/&#xA;b", "z"]));
        let odd = std::str::from_utf8(&odd).unwrap();
        let names: Vec<_> = odd
            .split("<Key>")
            .skip(1)
            .map(|part| quick_xml::escape::unescape(part.split("</Key>").next().unwrap()).unwrap().into_owned())
            .collect();
        assert_eq!(names.len(), 7);
        for (name, expected) in names.iter().zip(["a/b", "a//b&c", "/x", "dir/", " y ", "a/\nb", "z"]) {
            assert_eq!(of_path(&Path::parse(name).unwrap()).as_deref(), Some(expected));
        }
        assert_eq!(unmark_uri("https://s3/b/a/b", Some("x=1")), None);
        let uri = "https://s3/b/a/%F4%8F%BF%BD--/b%F4%8F%BF%BD0A";
        assert_eq!(unmark_uri(uri, Some("y")).as_deref(), Some("https://s3/b/a//b%0A?y"));
        let uri = "https://gcs/b/a%2F%F4%8F%BF%BD%2D%2D%2Fb";
        assert_eq!(unmark_uri(uri, None).as_deref(), Some("https://gcs/b/a%2F%2Fb"));
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
