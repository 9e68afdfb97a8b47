//! Names that are really paths, or have an id in them: what changes with each request is replaced by `{}`.

use std::borrow::Cow;

/// A name is at most so long, in bytes: what is longer is cut before it is hashed, so that what is shown is what is meant.
pub(super) const MAX_BYTES: usize = 1024;

/// What a name is taken apart at. Not `-`, `_` and `.`: they are parts of ids and of words alike.
const SEPARATORS: &[char] =
    &['/', ' ', ':', ',', ';', '=', '&', '|', '#', '?', '(', ')', '[', ']', '<', '>', '"', '\''];

/// `name` with every part that is an id replaced by `{}`: numbers (dates, versions and addresses of digits included),
/// UUIDs, ULIDs, long hexadecimal and base64 texts. The query of a path is dropped. Templating twice changes nothing.
pub(super) fn template(name: &str) -> Cow<'_, str> {
    let name = &name[..name.floor_char_boundary(MAX_BYTES)];
    let name = match name.find('/') {
        // A query has no end that could be told, so nothing behind it is looked at.
        Some(slash) => &name[..name[slash..].find('?').map_or(name.len(), |question| slash + question)],
        None => name,
    };
    let is_id = |part: &str| is_id(part);
    if !name.split(SEPARATORS).any(|part| templated(part, is_id).is_some()) {
        return Cow::Borrowed(name);
    }
    let mut text = String::with_capacity(name.len());
    for part in name.split_inclusive(SEPARATORS) {
        let word = part.trim_end_matches(SEPARATORS);
        match templated(word, is_id) {
            Some((before, after)) => text.extend([before, "{}", after]),
            None => text.push_str(word),
        }
        text.push_str(&part[word.len()..]);
    }
    Cow::Owned(text)
}

/// What stands around the id in `part`, if there is one: `order-4711.json` has none, `4711.json` and RabbitMQ's
/// `amq.gen-JzTY20BRgKO-HjmUJj0wLg` have.
fn templated(part: &str, is_id: impl Fn(&str) -> bool) -> Option<(&str, &str)> {
    if is_id(part) {
        return Some(("", ""));
    }
    if let Some((stem, extension)) = part.rsplit_once('.')
        && (1..=5).contains(&extension.len())
        && extension.bytes().all(|byte| byte.is_ascii_alphabetic())
        && is_id(stem)
    {
        return Some(("", &part[stem.len()..]));
    }
    let generated = part.strip_prefix("amq.gen-")?;
    (!generated.is_empty() && generated != "{}").then_some(("amq.gen-", ""))
}

/// Whether a text without separators is made up for one request, one order, one day.
fn is_id(part: &str) -> bool {
    let part = part.trim_matches(|c| matches!(c, '{' | '}'));
    let bytes = part.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    // An id without any digit is a word, as far as can be told.
    digits > 0 && (is_number(bytes) || is_uuid(bytes) || is_hex(bytes) || is_ulid(bytes) || is_base64(bytes))
}

/// 4711, 2026-11-22, 10.0.0.1, 1_000
fn is_number(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_' | b'+'))
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// At least 12 hexadecimal digits, such as an id of a trace, of a commit, of MongoDB.
fn is_hex(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"0x").unwrap_or(bytes);
    digits.len() >= 12 && digits.iter().all(u8::is_ascii_hexdigit)
}

fn is_ulid(bytes: &[u8]) -> bool {
    bytes.len() == 26
        && matches!(bytes[0], b'0'..=b'7')
        && bytes
            .iter()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'Z') && !matches!(byte, b'I' | b'L' | b'O' | b'U'))
}

/// At least 20 characters of base64 (without the padding, which is at a separator) that change between upper case, lower
/// case and digits at every second place or more often. Of random ones about nine of ten do, of words written together
/// (`GetOrdersByCustomer`: at one place of three) hardly any: it is better to show one id too many than to make two
/// handlers one.
fn is_base64(bytes: &[u8]) -> bool {
    let kind = |byte: u8| match byte {
        b'a'..=b'z' => 0,
        b'A'..=b'Z' => 1,
        b'0'..=b'9' => 2,
        _ => 3,
    };
    let fits = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'+'));
    let changes = bytes.windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
    bytes.len() >= 20 && fits && changes * 2 >= bytes.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("GET /users/4711", "GET /users/{}")]
    #[case("GET /users/4711/orders/17?page=2&x=y", "GET /users/{}/orders/{}")]
    #[case("/report/2026-11-22.csv", "/report/{}.csv")]
    #[case("/a/3F2504E0-4F89-11D3-9A0C-0305E82C3301/b", "/a/{}/b")]
    #[case("/a/{3F2504E0-4F89-11D3-9A0C-0305E82C3301}", "/a/{}")]
    #[case("/trace/4bf92f3577b34da6a3ce929d0e0e4736", "/trace/{}")]
    #[case("/blocks/01KA8Z3V5Y7N0M2B4C6D8F0G1H", "/blocks/{}")]
    #[case("/t/dGhpcyBpcyBhIHNlY3JldA==", "/t/{}==")]
    #[case("/t/JzTY20BRgKO-HjmUJj0wLg", "/t/{}")]
    #[case("process amq.gen-JzTY20BRgKO-HjmUJj0wLg", "process amq.gen-{}")]
    #[case("ping 10.0.0.1:8080", "ping {}:{}")]
    #[case("insert /srv/shopdata/logs/catalog.db", "insert /srv/shopdata/logs/catalog.db")]
    #[case("import 📦 Größe ☃", "import 📦 Größe ☃")]
    #[case("nightly-reindex", "nightly-reindex")]
    #[case("GET /api/v2/users", "GET /api/v2/users")]
    #[case("UsersController#show", "UsersController#show")]
    #[case("GetOrdersByCustomerIdV2Async", "GetOrdersByCustomerIdV2Async")]
    #[case("com.example.OrderServiceImpl2.findAllByCustomerId", "com.example.OrderServiceImpl2.findAllByCustomerId")]
    #[case("/deadbeefdeadbeef", "/deadbeefdeadbeef")]
    #[case("why? 17", "why? {}")]
    #[case("", "")]
    fn an_id_in_a_name_is_replaced(#[case] name: &str, #[case] expected: &str) {
        assert_eq!(template(name), expected);
    }

    proptest! {
        #[test]
        fn templating_twice_changes_nothing(name in ".*|([a-zA-Z0-9{}/ ?:._=-]{0,30})|(/([0-9]{1,3}|[a-f0-9]{12,14}|\\{\\}|x)){0,5}") {
            let once = template(&name).into_owned();
            prop_assert_eq!(template(&once), once.as_str());
        }
    }
}
