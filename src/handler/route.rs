//! Canonical routes: what a framework calls the route of a request, spelled one way.
//!
//! A canonical route begins with a slash, has no empty segments and no slash at its end. A parameter is `{name}`, one
//! that may be missing `{name?}`, one that takes the rest of the path `{name*}`; without a name `{}`, `{?}`, `{*}`.
//! Whatever else has a meaning in some framework's routes is percent-encoded. Canonical routes are hashed into handler
//! ids, so what [`Route::parse`] makes of a spelling is part of the rules' number ([`super::RULES`]).
//!
//! | spelling | of | becomes |
//! | --- | --- | --- |
//! | `:id` `:id?` `:id(\d+)` `*rest` `(.:format)` `{/:id}` | Express, Fastify, Koa, Gin, Echo, Rails, Sinatra, Phoenix, Hono | `{id}` `{id?}` `{id}` `{rest*}` nothing `{id?}` |
//! | `{id}` `{id:int?}` `{id=7}` `{id:[0-9]+}` `{*rest}` `{rest...}` `{p:path}` `{proxy+}` `{$}` | Spring, JAX-RS, ASP.NET, Go, gorilla, chi, actix, axum, Laravel, FastAPI, API Gateway | `{id}` `{id?}` `{id?}` `{id}` `{rest*}` `{rest*}` `{p*}` `{proxy*}` nothing |
//! | `<id>` `<int:id>` `<path:p>` `<id:int>` `<id..>` | Flask, Django, Bottle, Rocket | `{id}` `{id}` `{p*}` `{id}` `{id*}` |
//! | `^users/(?P<id>\d+)/$` `([^/]+)` `(.*)` | Django, Express | `/users/{id}` `{}` `{*}` |
//! | `[id]` `[...slug]` `[[...slug]]` `(group)` `$id` | Next.js, SvelteKit, Nuxt, Remix | `{id}` `{slug*}` `{slug*}` nothing `{id}` |
//! | `GET example.com/items/{id}` | Go's ServeMux | `/items/{id}` |
//! | `/*` `/**` | catch-alls | `/{*}` |

mod parse;

use std::fmt;

/// A canonical route is at most so long, in bytes: longer ones lose segments at their end.
pub const MAX_BYTES: usize = 1024;

/// A route, parsed. Prints itself canonical.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// None is empty.
    segments: Vec<Vec<Piece>>,
}

/// A piece of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Piece {
    /// Text, percent-encoded where it needs to be. Two never stand side by side.
    Literal(String),
    /// At least one character of this segment.
    Parameter { name: String, optional: bool },
    /// At least one character, slashes included.
    Rest { name: String },
}

/// How much a route says about the paths it matches: the smaller, the more. Segments are compared from left to right;
/// in each, fixed text says more than text with a parameter in it, then come a parameter, a parameter that may be
/// missing, the rest of the path. Of two routes that are equal as far as the shorter goes, the shorter one says more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Vagueness(Vec<u8>);

impl Route {
    /// Parses a route in any framework's spelling. Every text is a route.
    pub fn parse(route: &str) -> Self {
        Self { segments: parse::segments(route) }
    }

    /// Whether it takes every path: `/*`, `/**`, `/{path*}`. It tells nothing of what a request hit if the answer is
    /// that there is no such thing.
    pub fn is_catch_all(&self) -> bool {
        matches!(self.segments.as_slice(), [segment] if matches!(segment.as_slice(), [Piece::Rest { .. }]))
    }

    /// Whether a request for `path` (its query does not count) hits this route. Text is compared byte by byte.
    pub fn matches(&self, path: &str) -> bool {
        if self.is_catch_all() {
            return true;
        }
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let path: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        // How many of the path's segments can be used up by the route's segments so far. Not a recursion, which would
        // take exponential time for a hostile route with many rests in it.
        let mut used = vec![false; path.len() + 1];
        used[0] = true;
        for segment in &self.segments {
            let mut next = vec![false; path.len() + 1];
            let mut any = false;
            for (count, _) in used.iter().enumerate().filter(|(_, used)| **used) {
                match segment.as_slice() {
                    [Piece::Rest { .. }] => {
                        next[count..].iter_mut().skip(1).for_each(|next| *next = true);
                        any |= count < path.len();
                        // Those that follow reach no further.
                        break;
                    }
                    pieces => {
                        if matches!(pieces, [Piece::Parameter { optional: true, .. }]) {
                            (next[count], any) = (true, true);
                        }
                        if path.get(count).is_some_and(|text| segment_matches(pieces, text)) {
                            (next[count + 1], any) = (true, true);
                        }
                    }
                }
            }
            if !any {
                return false;
            }
            used = next;
        }
        used[path.len()]
    }

    /// How much it says: of several routes that match a path the least vague one wins.
    pub fn vagueness(&self) -> Vagueness {
        let vagueness = |segment: &Vec<Piece>| match segment.as_slice() {
            [Piece::Literal(_)] => 0,
            [Piece::Parameter { optional: false, .. }] => 2,
            [Piece::Parameter { optional: true, .. }] => 3,
            [Piece::Rest { .. }] => 5,
            pieces if pieces.iter().any(|piece| matches!(piece, Piece::Rest { .. })) => 4,
            _ => 1,
        };
        Vagueness(self.segments.iter().map(vagueness).collect())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        for segment in &self.segments {
            f.write_str("/")?;
            for piece in segment {
                match piece {
                    Piece::Literal(text) => f.write_str(text)?,
                    Piece::Parameter { name, optional: false } => write!(f, "{{{name}}}")?,
                    Piece::Parameter { name, optional: true } => write!(f, "{{{name}?}}")?,
                    Piece::Rest { name } => write!(f, "{{{name}*}}")?,
                }
            }
        }
        Ok(())
    }
}

/// The canonical spelling of `route`.
pub fn canonical(route: &str) -> String {
    Route::parse(route).to_string()
}

/// Whether a request for `path` hits `route`, in any spelling.
pub fn matches(route: &str, path: &str) -> bool {
    Route::parse(route).matches(path)
}

/// Whether the pieces of one segment make up `text`. A rest beside other pieces stays within its segment.
fn segment_matches(pieces: &[Piece], text: &str) -> bool {
    match pieces {
        [Piece::Literal(literal)] => literal == text,
        [_] => !text.is_empty(),
        pieces => {
            // The places in `text` that the pieces so far can reach.
            let text = text.as_bytes();
            let mut reached = vec![false; text.len() + 1];
            reached[0] = true;
            for piece in pieces {
                let mut next = vec![false; text.len() + 1];
                match piece {
                    Piece::Literal(literal) => {
                        for at in (0..text.len()).filter(|at| reached[*at]) {
                            if text[at..].starts_with(literal.as_bytes()) {
                                next[at + literal.len()] = true;
                            }
                        }
                    }
                    Piece::Parameter { .. } | Piece::Rest { .. } => {
                        if let Some(first) = reached.iter().position(|reached| *reached) {
                            next[first..].iter_mut().skip(1).for_each(|next| *next = true);
                        }
                    }
                }
                reached = next;
            }
            reached[text.len()]
        }
    }
}

#[cfg(test)]
mod tests;
