//! Events, links and entities as text: what [`super::typed_json`] reads again.

use super::dictionary::Texts;
use super::typed_json::write::{self, NotUtf8};

/// An event, as sent. Zero and empty are left out.
#[derive(Debug, Default)]
pub(super) struct Event<'a> {
    pub(super) time: u64,
    pub(super) name: &'a [u8],
    pub(super) dropped: u32,
    pub(super) redacted: u32,
}

impl Event<'_> {
    /// Writes it behind the others of its span. `attributes` is their text.
    pub(super) fn write(&self, events: &mut Texts, attributes: &[u8]) -> Result<(), NotUtf8> {
        let mut object = Object::begin(events.element());
        if self.time != 0 {
            write::unsigned(object.field("time"), self.time);
        }
        object.text("name", self.name)?;
        object.json("attributes", attributes);
        object.count("dropped", self.dropped.saturating_add(self.redacted));
        object.end();
        Ok(())
    }
}

/// A link, as sent: ids of any length. Zero and empty are left out.
#[derive(Debug, Default)]
pub(super) struct Link<'a> {
    pub(super) trace_id: &'a [u8],
    pub(super) span_id: &'a [u8],
    pub(super) trace_state: &'a [u8],
    pub(super) dropped: u32,
    pub(super) redacted: u32,
    pub(super) flags: u32,
}

impl Link<'_> {
    /// Writes it behind the others of its span. `attributes` is their text.
    pub(super) fn write(&self, links: &mut Texts, attributes: &[u8]) -> Result<(), NotUtf8> {
        let mut object = Object::begin(links.element());
        object.hex("trace_id", self.trace_id);
        object.hex("span_id", self.span_id);
        object.text("trace_state", self.trace_state)?;
        object.json("attributes", attributes);
        object.count("dropped", self.dropped.saturating_add(self.redacted));
        object.count("flags", self.flags);
        object.end();
        Ok(())
    }
}

/// Writes an entity behind the others in `out`, an array without its end.
pub(super) fn entity_ref(
    out: &mut Vec<u8>,
    schema_url: &[u8],
    kind: &[u8],
    id_keys: &[impl AsRef<[u8]>],
    description_keys: &[impl AsRef<[u8]>],
) -> Result<(), NotUtf8> {
    out.push(if out.is_empty() { b'[' } else { b',' });
    let mut object = Object::begin(out);
    object.text("schemaUrl", schema_url)?;
    object.text("type", kind)?;
    object.texts("idKeys", id_keys)?;
    object.texts("descriptionKeys", description_keys)?;
    object.end();
    Ok(())
}

/// The array or object that begins at `start` is at its end; it stays empty (no value) if nothing was written.
pub(super) fn close(out: &mut Vec<u8>, start: usize, end: u8) {
    if out.len() > start {
        out.push(end);
    }
}

/// An object whose empty fields are left out.
struct Object<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }

    fn field(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    fn text(&mut self, name: &str, text: &[u8]) -> Result<(), NotUtf8> {
        if text.is_empty() { Ok(()) } else { write::string(self.field(name), text) }
    }

    fn texts(&mut self, name: &str, texts: &[impl AsRef<[u8]>]) -> Result<(), NotUtf8> {
        if texts.is_empty() {
            return Ok(());
        }
        let out = self.field(name);
        for (at, text) in texts.iter().enumerate() {
            out.push(if at == 0 { b'[' } else { b',' });
            write::string(out, text.as_ref())?;
        }
        out.push(b']');
        Ok(())
    }

    fn hex(&mut self, name: &str, bytes: &[u8]) {
        if !bytes.is_empty() {
            let out = self.field(name);
            out.push(b'"');
            write::hex(out, bytes);
            out.push(b'"');
        }
    }

    fn json(&mut self, name: &str, text: &[u8]) {
        if !text.is_empty() {
            self.field(name).extend_from_slice(text);
        }
    }

    fn count(&mut self, name: &str, count: u32) {
        if count != 0 {
            write::unsigned(self.field(name), u64::from(count));
        }
    }

    fn end(self) {
        self.out.push(b'}');
    }
}
