//! Every framework's spelling of a route → its segments.
//!
//! One scanner for all of them: which framework it was is not known, and what the spellings share is more than what they
//! dispute. Where they do, the comment says who wins. What it prints parses as the same again: names of parameters are
//! plain, and of the characters that mean something here none is left in a literal.

use super::{MAX_BYTES, Piece};
use crate::handler::rules::METHODS;

/// More of a route than this is not looked at: what is kept is shorter.
const LONGEST_INPUT: usize = 8 * MAX_BYTES;

/// OData's words that begin with `$` are text (`/$metadata`, `/Users/$count`); elsewhere it is Remix' parameter (`/$id`).
const ODATA: [&str; 9] = ["metadata", "count", "batch", "value", "ref", "links", "all", "crossjoin", "entity"];

/// What stands before the colon in Flask (`<int:id>`) and after it in Bottle (`<id:int>`).
const CONVERTERS: [&str; 15] = [
    "int", "float", "string", "path", "uuid", "any", "str", "slug", "re", "regex", "default", "bool", "date", "signed",
    "decimal",
];

/// The segments of `route`; none is empty.
pub(super) fn segments(route: &str) -> Vec<Vec<Piece>> {
    let text = without_host(shortened(route.trim(), LONGEST_INPUT));
    let regex = text.contains('^') || text.contains('\\') || text.contains("(?");
    let mut scanner = Scanner { regex, segments: Vec::new(), segment: Vec::new() };
    scanner.scan(text, false, 0);
    scanner.end_segment();
    within_limit(scanner.segments)
}

/// `text` up to at most `bytes`, at a character's end.
fn shortened(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// Without what stands before the path: a method and a host (Go's ServeMux: `GET example.com/items/{id}`), or a
/// scheme and a host.
fn without_host(text: &str) -> &str {
    let path_of = |text| str::find(text, '/').map_or("", |slash| &text[slash..]);
    if let Some((method, pattern)) = text.split_once([' ', '\t'])
        && METHODS.contains(&method)
    {
        return path_of(pattern);
    }
    for scheme in ["http://", "https://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            return path_of(rest);
        }
    }
    text
}

/// Segments until they fill [`MAX_BYTES`] as they print; one that alone is longer is no text anybody reads.
fn within_limit(mut segments: Vec<Vec<Piece>>) -> Vec<Vec<Piece>> {
    let length = |segment: &[Piece]| {
        let pieces = segment.iter().map(|piece| match piece {
            Piece::Literal(text) => text.len(),
            Piece::Parameter { name, optional } => name.len() + 2 + usize::from(*optional),
            Piece::Rest { name } => name.len() + 3,
        });
        1 + pieces.sum::<usize>()
    };
    let mut bytes = 0;
    for index in 0..segments.len() {
        if length(&segments[index]) > MAX_BYTES {
            segments[index] = vec![Piece::Parameter { name: String::new(), optional: false }];
        }
        bytes += length(&segments[index]);
        if bytes > MAX_BYTES {
            segments.truncate(index);
            break;
        }
    }
    segments
}

struct Scanner {
    /// Whether the route is a regular expression: where it matters for what a character means.
    regex: bool,
    segments: Vec<Vec<Piece>>,
    segment: Vec<Piece>,
}

impl Scanner {
    /// Scans `text`, whose parameters are optional in an optional group. `depth` bounds groups in groups.
    fn scan(&mut self, text: &str, optional: bool, depth: usize) {
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let after = &rest[first.len_utf8()..];
            rest = match first {
                '/' => {
                    self.end_segment();
                    after
                }
                ':' => self.colon(after, optional),
                '*' => self.star(after),
                '{' => self.brace(after, optional, depth),
                '<' => self.angle(after, optional),
                '[' => self.bracket(after, optional),
                '(' => self.parenthesis(after, optional, depth),
                '$' => self.dollar(after, optional),
                '\\' => self.backslash(after),
                // Anchors say nothing here; of quantifiers only that the character is there.
                '^' => after,
                '+' | '?' if self.regex => after,
                // A query is no part of a route; and `/users/?` is `/users`.
                '?' => "",
                '.' if self.regex && after.starts_with(['*', '+']) => {
                    self.push(Piece::Rest { name: String::new() });
                    after[1..].trim_start_matches('?')
                }
                _ => {
                    self.text(first);
                    after
                }
            };
        }
    }

    fn end_segment(&mut self) {
        let segment = std::mem::take(&mut self.segment);
        if !segment.is_empty() {
            self.segments.push(segment);
        }
    }

    fn push(&mut self, piece: Piece) {
        // `\d\d\d\d`: one parameter, not four.
        if self.segment.last() != Some(&piece) || !is_nameless(&piece) {
            self.segment.push(piece);
        }
    }

    fn parameter(&mut self, name: &str, optional: bool, is_rest: bool) {
        let name = plain(name);
        self.push(if is_rest { Piece::Rest { name } } else { Piece::Parameter { name, optional } });
    }

    /// A character that stands for itself; encoded if it could be taken for something else.
    fn text(&mut self, character: char) {
        if !matches!(self.segment.last(), Some(Piece::Literal(_))) {
            self.segment.push(Piece::Literal(String::new()));
        }
        let Some(Piece::Literal(text)) = self.segment.last_mut() else { return };
        let means =
            matches!(character, '{' | '}' | '<' | '>' | '[' | ']' | '(' | ')' | '*' | '^' | '\\' | '|' | '?' | '#');
        if means || character.is_whitespace() || character.is_control() {
            encode(text, character);
        } else {
            text.push(character);
        }
    }

    fn encoded(&mut self, character: char) {
        if !matches!(self.segment.last(), Some(Piece::Literal(_))) {
            self.segment.push(Piece::Literal(String::new()));
        }
        if let Some(Piece::Literal(text)) = self.segment.last_mut() {
            encode(text, character);
        }
    }

    /// `:id`, at the beginning of a segment or after a sign (`:from-:to`). After a letter, digit or parameter it is
    /// text: Google's verbs (`/shelves:clear`, `/{name}:publish`).
    fn colon<'t>(&mut self, after: &'t str, optional: bool) -> &'t str {
        let is_text = match self.segment.last() {
            None => false,
            Some(Piece::Literal(text)) => text.ends_with(|last: char| last.is_alphanumeric()),
            Some(_) => true,
        };
        if is_text {
            self.text(':');
            return after;
        }
        let (name, mut rest) = identifier(after);
        if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            self.encoded(':');
            return after;
        }
        let mut is_rest = false;
        // `:id(\d+)`, and Hono's `:id{[0-9]+}`; but `:id(.:format)` and `:id{/:page}` are optional groups.
        let is_group = |pattern: &str| pattern.starts_with(['/', ':']) || pattern.starts_with(".:");
        if let Some((pattern, behind)) = group(rest, '(', ')')
            && !is_group(pattern)
        {
            is_rest = takes_all(pattern);
            rest = behind;
        } else if let Some((pattern, behind)) = group(rest, '{', '}')
            && !is_group(pattern)
        {
            is_rest = takes_all(pattern);
            rest = behind;
        }
        let mut missing = optional;
        if let Some(behind) = rest.strip_prefix('?') {
            (missing, rest) = (true, behind);
        } else if let Some(behind) = rest.strip_prefix(['*', '+']) {
            (is_rest, rest) = (true, behind);
        }
        self.parameter(name, missing, is_rest);
        rest
    }

    /// `*`, `**`, `*rest`. One star that is a whole segment with others behind it is one segment (Ant, Sinatra).
    fn star<'t>(&mut self, after: &'t str) -> &'t str {
        let behind = after.trim_start_matches('*');
        let (name, rest) = identifier(behind);
        let alone = self.segment.is_empty() && after.starts_with('/') && !after.trim_matches('/').is_empty();
        self.parameter(name, false, !alone);
        rest.strip_prefix('?').unwrap_or(rest)
    }

    /// `{id}` in all its forms, and Express 5's optional group `{/:id}`.
    fn brace<'t>(&mut self, after: &'t str, optional: bool, depth: usize) -> &'t str {
        let Some((inside, rest)) = enclosed(after, '{', '}') else {
            self.text('{');
            return after;
        };
        if inside == "$" {
            // Go: exactly this path.
            return rest;
        }
        if inside.starts_with(['/', ':']) && depth < 8 {
            self.scan(inside, true, depth + 1);
            return rest;
        }
        if inside.starts_with('.') {
            // An optional format: `{.:ext}`.
            return rest;
        }
        // A quantifier: `\d{4}`, `[a-z]{2,}`.
        let is_count = !inside.is_empty() && inside.bytes().all(|byte| byte.is_ascii_digit() || byte == b',');
        if self.regex && is_count && self.segment.last().is_some() {
            return rest;
        }
        let starred = inside.trim_start_matches('*');
        let (name, kind) = match starred.find([':', '=', '<']) {
            Some(at) => (&starred[..at], &starred[at..]),
            None => (starred, ""),
        };
        let bare = name.trim_end_matches(['?', '*', '+', '.']);
        let marks = &name[bare.len()..];
        let is_rest = starred.len() < inside.len()
            || marks.contains(['*', '+'])
            || marks.starts_with("..")
            || kind.trim_start_matches(':').trim() == "path"
            || (kind.starts_with(':') && takes_all(kind))
            // Google: `{name=shelves/*}`
            || (kind.starts_with('=') && kind.contains('/'));
        // ASP.NET: `{id?}`, `{id:int?}`, `{id=7}`; Symfony: `{id<\d+>?7}`.
        let missing = marks.contains('?') || kind.ends_with('?') || kind.starts_with('=') || kind.contains(">?");
        self.parameter(bare, optional || missing, is_rest);
        rest
    }

    /// `<int:id>` (Flask, Django), `<id:int>` (Bottle), `<id..>` (Rocket).
    fn angle<'t>(&mut self, after: &'t str, optional: bool) -> &'t str {
        let Some((inside, rest)) = enclosed(after, '<', '>') else {
            self.text('<');
            return after;
        };
        let word = |part: &str| CONVERTERS.contains(&part.split('(').next().unwrap_or_default().trim());
        let (converter, name) = match inside.split_once(':') {
            None => ("", inside),
            // The converter may have arguments with colons: the name is what stands behind the last one.
            Some((first, _)) if word(first) => (first, inside.rsplit(':').next().unwrap_or_default()),
            Some((first, behind)) if word(behind.split(':').next().unwrap_or_default()) => (behind, first),
            Some((first, behind)) => (first, behind),
        };
        let bare = name.strip_suffix("..").unwrap_or(name);
        self.parameter(bare, optional, bare.len() < name.len() || converter.trim() == "path");
        rest
    }

    /// `[id]`, `[...slug]`, `[[...slug]]`, `[[lang]]` (file names of Next.js, SvelteKit, Nuxt); a class of characters
    /// in a regular expression.
    fn bracket<'t>(&mut self, after: &'t str, optional: bool) -> &'t str {
        let Some((inside, rest)) = enclosed(after, '[', ']') else {
            self.text('[');
            return after;
        };
        let (inner, twice) = match inside.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
            Some(inner) => (inner, true),
            None => (inside, false),
        };
        let bare = inner.trim_start_matches('.');
        // SvelteKit: `[id=integer]`
        let name = bare.split('=').next().unwrap_or_default();
        let is_name =
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if self.regex || !is_name || rest.starts_with(['+', '*', '{']) {
            self.parameter("", optional, false);
            return without_quantifier(rest);
        }
        self.parameter(name, optional || twice, bare.len() + 3 <= inner.len());
        rest
    }

    /// Groups: of a regular expression, optional ones (Rails: `(/:locale)`, `(.:format)`), and Next.js' that are in no
    /// path.
    fn parenthesis<'t>(&mut self, after: &'t str, optional: bool, depth: usize) -> &'t str {
        let Some((inside, rest)) = enclosed(after, '(', ')') else {
            self.text('(');
            return after;
        };
        let behind = without_quantifier(rest);
        let missing = optional || rest.starts_with(['?', '*']);
        if let Some(special) = inside.strip_prefix('?') {
            let named =
                special.strip_prefix("P<").or_else(|| special.strip_prefix('<')).or_else(|| special.strip_prefix('\''));
            let named = named.and_then(|named| named.split_once(['>', '\'']));
            match named {
                Some((name, pattern)) if !name.starts_with(['=', '!']) => {
                    self.parameter(name, missing, takes_all(pattern));
                }
                // `(?:…)?` is optional text; `(?=…)`, `(?!…)` and `(?i)` are no text at all.
                _ if special.starts_with(':') && !missing => self.parameter("", false, takes_all(special)),
                _ => {}
            }
            return behind;
        }
        if inside.starts_with(".:") || inside.starts_with("\\.") {
            // An optional format.
            return behind;
        }
        if inside.starts_with(['/', ':']) && depth < 8 {
            self.scan(inside, true, depth + 1);
            return behind;
        }
        let is_name = inside.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let is_segment = self.segment.is_empty() && (rest.is_empty() || rest.starts_with('/'));
        if !(is_name && is_segment) {
            self.parameter("", missing, takes_all(inside));
        }
        behind
    }

    /// The end of a regular expression; Remix' `$id` and `$`; Play's `$id<[0-9]+>`; otherwise text.
    fn dollar<'t>(&mut self, after: &'t str, optional: bool) -> &'t str {
        if after.is_empty() && (self.regex || !self.segment.is_empty()) {
            return after;
        }
        if !self.segment.is_empty() {
            self.encoded('$');
            return after;
        }
        let (name, rest) = identifier(after);
        if ODATA.contains(&name) {
            self.text('$');
        } else if !name.is_empty() {
            self.parameter(name, optional, false);
            return group(rest, '<', '>').map_or(rest, |(_, behind)| behind);
        } else if after.is_empty() || after.starts_with('/') {
            self.parameter("", optional, true);
        } else {
            self.encoded('$');
        }
        after
    }

    /// An escaped character is itself, but for classes (`\d+`) and edges (`\b`).
    fn backslash<'t>(&mut self, after: &'t str) -> &'t str {
        let Some(first) = after.chars().next() else { return after };
        let rest = &after[first.len_utf8()..];
        match first {
            'd' | 'D' | 'w' | 'W' | 's' | 'S' => {
                self.parameter("", false, false);
                return without_quantifier(rest);
            }
            'A' | 'Z' | 'z' | 'b' | 'B' => {}
            '/' => self.end_segment(),
            ':' | '$' => self.encoded(first),
            _ => self.text(first),
        }
        rest
    }
}

fn is_nameless(piece: &Piece) -> bool {
    match piece {
        Piece::Literal(_) => false,
        Piece::Parameter { name, .. } | Piece::Rest { name } => name.is_empty(),
    }
}

/// A parameter's name, with nothing in it that means something.
fn plain(name: &str) -> String {
    let name = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    name.take(64).collect()
}

fn encode(text: &mut String, character: char) {
    use std::fmt::Write;
    for byte in character.encode_utf8(&mut [0; 4]).bytes() {
        // Writing to a string cannot fail.
        let _ = write!(text, "%{byte:02X}");
    }
}

/// The letters, digits and `_` at the beginning of `text`, and what follows.
fn identifier(text: &str) -> (&str, &str) {
    let length = text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count();
    text.split_at(length)
}

/// What stands in brackets at the very beginning of `text`, and what follows.
fn group(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    enclosed(text.strip_prefix(open)?, open, close)
}

/// What stands before the bracket that closes the one before `text`, and what follows. Brackets within count; escaped
/// ones do not.
fn enclosed(text: &str, open: char, close: char) -> Option<(&str, &str)> {
    let mut depth = 0;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        if std::mem::take(&mut escaped) {
            continue;
        }
        match character {
            '\\' => escaped = true,
            _ if character == close && depth == 0 => return Some((&text[..at], &text[at + 1..])),
            _ if character == close => depth -= 1,
            _ if character == open => depth += 1,
            _ => {}
        }
    }
    None
}

/// Whether a pattern takes slashes, too.
fn takes_all(pattern: &str) -> bool {
    pattern.contains(".*") || pattern.contains(".+")
}

/// `text` without `?`, `*`, `+` or `{2,3}` at its beginning.
fn without_quantifier(text: &str) -> &str {
    if let Some((count, rest)) = group(text, '{', '}')
        && !count.is_empty()
        && count.bytes().all(|byte| byte.is_ascii_digit() || byte == b',')
    {
        return rest;
    }
    text.trim_start_matches(['?', '*', '+'])
}
