//! Where one JSON document ends and the next begins: one an object, one a line, one behind the other, or over many
//! lines; and where to go on behind one that is cut.

use memchr::memmem;

/// How documents of collectors begin, whatever wrote them. Not one of these can stand at the beginning of a line within
/// a document, or within a string.
const BEGINNINGS: [&[u8]; 6] = [
    b"{\"resourceSpans\"",
    b"{\"resource_spans\"",
    b"{\"resourceMetrics\"",
    b"{\"resource_metrics\"",
    b"{\"resourceLogs\"",
    b"{\"resource_logs\"",
];

/// How much of a line has to be there for [`begins`] to be sure.
pub(super) const BEGINNING_BYTES: usize = 20;

/// Whether a document begins here.
pub(super) fn begins(text: &[u8]) -> bool {
    BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

/// Where the first document of `text` behind its first byte begins.
pub(super) fn next_beginning(text: &[u8]) -> Option<usize> {
    memmem::find_iter(text, b"{\"resource").find(|at| *at > 0 && begins(&text[*at..]))
}

/// How far a [`Scanner`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// The document ends before this place.
    End(usize),
    /// More text is needed.
    More,
}

/// Finds the end of a document by its brackets, going on where it stopped when there is more text.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    at: usize,
    depth: usize,
    in_string: bool,
}

impl Scanner {
    /// Scans on in `text`, which begins with the document. A document also ends where it is cut: at the end of a line
    /// within a string (JSON has no line ends in strings), or before a line with which another document begins.
    /// `is_whole`: no more text will come.
    pub(super) fn scan(&mut self, text: &[u8], is_whole: bool) -> Scan {
        while self.at < text.len() {
            if self.in_string {
                let Some(length) = memchr::memchr3(b'"', b'\\', b'\n', &text[self.at..]) else {
                    self.at = text.len();
                    return Scan::More;
                };
                let at = self.at + length;
                match text[at] {
                    b'"' => {
                        self.in_string = false;
                        self.at = at + 1;
                    }
                    b'\n' => return Scan::End(at),
                    // A backslash and what it escapes, if that is there already.
                    _ if at + 1 < text.len() => self.at = at + if text[at + 1] == b'\n' { 1 } else { 2 },
                    _ => {
                        self.at = at;
                        return Scan::More;
                    }
                }
                continue;
            }
            match text[self.at] {
                b'"' => self.in_string = true,
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return Scan::End(self.at + 1);
                    }
                }
                b'\n' => {
                    let next = &text[self.at + 1..];
                    if begins(next) {
                        return Scan::End(self.at);
                    }
                    if next.len() < BEGINNING_BYTES && !is_whole {
                        return Scan::More;
                    }
                }
                _ => {}
            }
            self.at += 1;
        }
        Scan::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the first document ends, if the text comes in pieces of so many bytes.
    fn end(text: &str, piece: usize) -> Option<usize> {
        let mut scanner = Scanner::default();
        let mut there = 0;
        loop {
            there = (there + piece).min(text.len());
            match scanner.scan(&text.as_bytes()[..there], there == text.len()) {
                Scan::End(at) => return Some(at),
                Scan::More if there == text.len() => return None,
                Scan::More => {}
            }
        }
    }

    #[test]
    fn documents_end_at_their_last_bracket_or_where_they_are_cut() {
        let cases = [
            (r#"{"a":[{}]}{"b":1}"#, Some(10)),
            (r#"{"a":"}\"\\"}x"#, Some(13)),
            ("{\n \"a\": [\n{\n}\n]\n}\n{}", Some(17)),
            ("{\"a\":\"cut\n{\"resourceSpans\":[]}", Some(9)),
            ("{\"a\":\"cut\\\n{\"resourceSpans\":[]}", Some(10)),
            ("{\"a\":[\n{\"resourceSpans\":[]}", Some(6)),
            ("{\"a\":[\n{\"resource\":{}}]}", Some(24)),
            ("{\"a\":[", None),
        ];
        for (text, expected) in cases {
            for piece in [1, 2, 3, 7, 1000] {
                assert_eq!(end(text, piece), expected, "{text} by {piece}");
            }
        }
    }

    #[test]
    fn the_next_document_is_found() {
        assert_eq!(next_beginning(br#"{"resourceSpans":[{"resource":{}}, {"resourceSpans":1}"#), Some(35));
        assert_eq!(next_beginning(br#"{"resourceSpans":["{\"resourceSpans\""#), None);
    }
}
