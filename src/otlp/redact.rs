//! Attributes that lose their values before anything is stored.

use std::collections::HashMap;
use std::sync::Arc;

use globset::{Glob, GlobSet, GlobSetBuilder};
use sha2::{Digest, Sha256};

use super::typed_json::write;
use crate::error::{Mistake, Result};

/// Which attributes are dropped or hashed (`redact` in the settings): globs over attribute keys, of spans, events,
/// links, scopes and resources, and so of the columns made of them (`service`, `http_route` and the like).
///
/// A dropped attribute is gone, and counts as one more dropped attribute, as the protocol has it. A hashed one keeps
/// its key; its value becomes the string `sha256:` and the first 16 bytes, in hex, of the SHA-256 of its value (a
/// string as it is, anything else as typed JSON). Equal values stay equal, everywhere and always, so that one can still
/// count and join them. There is no secret in it: who can guess a value (an e-mail address, an IP address) can find it
/// again. What must not be guessed is to be dropped.
///
/// Only whole attributes are looked at: a key within a key-value list is not, its outer attribute is. Names of spans
/// and events, status messages and trace states stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Redact {
    globs: Option<Arc<Globs>>,
}

#[derive(Debug)]
struct Globs {
    drop: GlobSet,
    hash: GlobSet,
}

impl Redact {
    /// Drops attributes whose keys match one of `drop` and hashes those that match one of `hash`; a key that matches
    /// both is dropped. `*` matches any characters, dots and slashes included.
    ///
    /// # Errors
    /// A [`Mistake`] that names the glob that cannot be read.
    pub fn new(drop: &[String], hash: &[String]) -> Result<Self> {
        if drop.is_empty() && hash.is_empty() {
            return Ok(Self::default());
        }
        Ok(Self { globs: Some(Arc::new(Globs { drop: set(drop)?, hash: set(hash)? })) })
    }
}

fn set(globs: &[String]) -> Result<GlobSet> {
    let mistake = |glob: &str, error: globset::Error| {
        Mistake(format!("redact: `{glob}` is not a pattern of attribute keys: {}", error.kind()))
    };
    let mut set = GlobSetBuilder::new();
    for text in globs {
        set.add(Glob::new(text).map_err(|error| mistake(text, error))?);
    }
    Ok(set.build().map_err(|error| mistake(&globs.join(" "), error))?)
}

/// What happens to an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    Drop,
    Hash,
}

/// A [`Redact`] at work: it remembers what it said of a key, as keys repeat.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    globs: Option<Arc<Globs>>,
    known: HashMap<Box<[u8]>, Action>,
}

/// How many keys are remembered: more are no longer the keys of a program but of somebody who makes them up.
const KNOWN: usize = 4096;

impl Redactor {
    pub(super) fn new(redact: Redact) -> Self {
        Self { globs: redact.globs, known: HashMap::new() }
    }

    /// What happens to the attributes of this key.
    #[inline]
    pub(super) fn action(&mut self, key: &[u8]) -> Action {
        if self.globs.is_none() { Action::Keep } else { self.looked_up(key) }
    }

    fn looked_up(&mut self, key: &[u8]) -> Action {
        let Some(globs) = &self.globs else { return Action::Keep };
        if let Some(action) = self.known.get(key) {
            return *action;
        }
        // A key that is not UTF-8 makes its span bad anyway.
        let text = String::from_utf8_lossy(key);
        let action = if globs.drop.is_match(&*text) {
            Action::Drop
        } else if globs.hash.is_match(&*text) {
            Action::Hash
        } else {
            Action::Keep
        };
        if self.known.len() < KNOWN {
            self.known.insert(key.into(), action);
        }
        action
    }
}

/// Replaces the value written at `start` of `out` by its hash.
pub(super) fn hash(out: &mut Vec<u8>, start: usize) {
    let digest = match super::promote::text(out, (start as u32, out.len() as u32)) {
        Some(text) => Sha256::digest(&text),
        None if &out[start..] == b"\"\"" => Sha256::digest(b""),
        None => Sha256::digest(&out[start..]),
    };
    out.truncate(start);
    out.extend_from_slice(b"\"sha256:");
    write::hex(out, &digest[..16]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_tell_what_happens() {
        let redact = Redact::new(&["*.email".into(), "a?".into()], &["http.request.header.*".into(), "ab".into()]);
        let mut redactor = Redactor::new(redact.unwrap());
        for _ in 0..2 {
            assert_eq!(redactor.action(b"enduser.email"), Action::Drop);
            assert_eq!(redactor.action(b"ab"), Action::Drop, "dropping goes before hashing");
            assert_eq!(redactor.action(b"http.request.header.x-a/b"), Action::Hash);
            assert_eq!(redactor.action(b"enduser.emails"), Action::Keep);
        }
        assert!(Redact::new(&["a[".into()], &[]).is_err_and(|report| report.to_string().contains("`a[`")));
    }

    #[test]
    fn a_hash_is_of_the_string_itself() {
        let hashed = |value: &str| {
            let mut out = format!("{{\"k\":{value}").into_bytes();
            hash(&mut out, 5);
            String::from_utf8(out).unwrap()
        };
        // printf abc | sha256sum
        assert_eq!(hashed("\"abc\""), r#"{"k":"sha256:ba7816bf8f01cfea414140de5dae2223""#);
        assert_eq!(hashed("\"\""), r#"{"k":"sha256:e3b0c44298fc1c149afbf4c8996fb924""#);
        assert_eq!(hashed("\"a\\u0062c\""), hashed("\"abc\""));
        assert_ne!(hashed("7"), hashed("\"7.0\""));
    }
}
