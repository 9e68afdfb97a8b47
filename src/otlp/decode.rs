//! One object → rows. The format is told by content, never by name.

use std::io::{self, Read};

use jiff::Timestamp;

use super::bad::{BadPart, Notes, reason};
use super::lines::{self, Scan, Scanner};
use super::rows::SpanRows;
use super::sink::{Place, Sink};
use super::sniff::{self, Format};
use super::source::{self, BodyError, Damage, Stream, Window};
use super::wire::{Field, Fields, Varint, varint};
use super::{json, protobuf, typed_json};
use crate::error::{Result, report};

/// What an object may ask of us.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The largest single message: a `ResourceSpans` of a protobuf document, a JSON document, a frame. Bytes,
    /// decompressed. At most [`MOST_MESSAGE_BYTES`] count.
    pub message_bytes: usize,
    /// How deep values may nest. At most [`typed_json::MAX_DEPTH`] counts.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 64 << 20, depth: 100 }
    }
}

/// Messages may not be larger, whatever [`Limits::message_bytes`] says: Arrow's offsets have 31 bits, and text may be
/// ten times as long as it was on the wire (control characters, hashed values).
pub const MOST_MESSAGE_BYTES: usize = 128 << 20;

/// With this much text in one column the rows are many enough.
const FULL_TEXT_BYTES: usize = 512 << 20;

/// How often an object may be compressed.
const MOST_LAYERS: usize = 3;

/// How far [`ObjectDecoder::decode`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The rows are many enough; call again with new ones.
    Full,
    /// The object is at its end.
    Done,
}

/// Reads one object of any size, message by message.
pub struct ObjectDecoder<R: Read> {
    window: Window<Stream<R>>,
    layers: usize,
    content: Content,
    place: Place,
    /// Ends of lines so far.
    lines: u64,
    limits: Limits,
    received_ms: i64,
    notes: Notes,
    /// A frame, decompressed.
    frame: Vec<u8>,
    frame_bytes: u64,
}

/// What the object turned out to be.
#[derive(Debug)]
enum Content {
    /// Not looked at yet, or another layer of compression was just taken off.
    Unseen,
    Json,
    Protobuf,
    Framed,
    Ended,
}

impl<R: Read> ObjectDecoder<R> {
    /// Begins with an object's bytes. `received` is the object's last-modified, as the answer that delivers these
    /// bytes said; fractions of a second do not count.
    pub fn new(body: R, received: Timestamp, mut limits: Limits) -> Self {
        limits.message_bytes = limits.message_bytes.min(MOST_MESSAGE_BYTES);
        limits.depth = limits.depth.min(typed_json::MAX_DEPTH);
        Self {
            window: Window::new(Stream::new(body)),
            layers: 0,
            content: Content::Unseen,
            place: Place::default(),
            lines: 0,
            limits,
            received_ms: received.as_millisecond().div_euclid(1000) * 1000,
            notes: Notes::default(),
            frame: Vec::new(),
            frame_bytes: 0,
        }
    }

    /// Decodes into `rows` until the object ends or `rows` hold about `until_bytes` of decompressed input from this
    /// call. Bad parts are noted ([`ObjectDecoder::bad`]) and the good ones go on.
    ///
    /// # Errors
    /// Only if `body` fails to be read (a cut connection): the rows of this object are then not whole, and the object
    /// is to be read again.
    pub fn decode(&mut self, rows: &mut SpanRows, until_bytes: usize) -> Result<Progress> {
        let begin = self.window.consumed_bytes() + self.frame_bytes;
        loop {
            match self.step(rows) {
                Ok(()) => {}
                Err(error) => self.stop(error)?,
            }
            if matches!(self.content, Content::Ended) {
                return Ok(Progress::Done);
            }
            let decoded = self.window.consumed_bytes() + self.frame_bytes - begin;
            if decoded >= until_bytes as u64 || rows.longest_text() >= FULL_TEXT_BYTES {
                return Ok(Progress::Full);
            }
        }
    }

    /// What could not be read so far, at most 100 of them.
    pub fn bad(&self) -> &[BadPart] {
        &self.notes.parts
    }

    /// How many parts could not be read, those beyond the hundredth included.
    pub fn bad_count(&self) -> u64 {
        self.notes.count
    }

    /// Bytes decompressed so far.
    pub fn decompressed_bytes(&self) -> u64 {
        self.window.read_bytes() + self.frame_bytes
    }

    /// Reads one message.
    fn step(&mut self, rows: &mut SpanRows) -> io::Result<()> {
        match self.content {
            Content::Unseen => self.sniff(),
            Content::Protobuf => self.field(rows),
            Content::Json => self.document(rows),
            Content::Framed => self.frame(rows),
            Content::Ended => Ok(()),
        }
    }

    /// The stream cannot be read on. What was decompressed before is still there: it is decoded.
    fn stop(&mut self, error: io::Error) -> Result<()> {
        match damage(&error) {
            Some(damage) => {
                // Further reads find the end.
                let at = Place::default().tell(Some(self.window.read_bytes() as usize));
                self.notes.add(damage.reason, at, &damage.message);
                Ok(())
            }
            None => match error.downcast::<BodyError>() {
                Ok(BodyError(error)) => Err(report!(error).context("read the object's body").into_dynamic()),
                Err(error) => Err(report!(error).context("decompress the object").into_dynamic()),
            },
        }
    }

    /// Finds out what the object is, and takes off a layer of compression.
    fn sniff(&mut self) -> io::Result<()> {
        self.window.fill_to(sniff::PREFIX_BYTES)?;
        let format = sniff::format(&self.window.data()[..self.window.data().len().min(sniff::PREFIX_BYTES)]);
        self.content = match format {
            Format::Json => Content::Json,
            Format::Protobuf => Content::Protobuf,
            Format::Framed => Content::Framed,
            Format::Gzip | Format::Zstd if self.layers < MOST_LAYERS => {
                self.layers += 1;
                let outer = std::mem::replace(&mut self.window, Window::new(Stream::Nothing));
                let inner = if format == Format::Gzip { Stream::gunzip(outer) } else { Stream::unzstd(outer)? };
                self.window = Window::new(inner);
                Content::Unseen
            }
            Format::Gzip | Format::Zstd => {
                let message = format!("compressed more than {MOST_LAYERS} times");
                self.notes.add(reason::UNKNOWN_FORMAT, "byte 0", message);
                Content::Ended
            }
            Format::Unknown => {
                self.notes.add(reason::UNKNOWN_FORMAT, "byte 0", unknown(self.window.data()));
                Content::Ended
            }
        };
        Ok(())
    }

    /// Reads one field of a protobuf document: a `ResourceSpans`. Consumes nothing before it is all there: a stream that
    /// breaks is asked again, and then ends.
    fn field(&mut self, rows: &mut SpanRows) -> io::Result<()> {
        if !self.window.fill_to(1)? {
            self.content = Content::Ended;
            return Ok(());
        }
        // A tag and a length, or a tag and a number, take at most 20 bytes.
        let is_short = !self.window.fill_to(20)?;
        let at = self.window.consumed_bytes();
        let Some((number, header, length)) = head(self.window.data()) else {
            return self.short_field(is_short);
        };
        if number != 1 {
            return self.discard(header as u64 + length);
        }
        let most = self.limits.message_bytes;
        let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(most + 1);
        let is_whole = self.window.fill_to(header + wanted)?;
        self.place.resource += 1;
        self.place.before = at + header as u64;
        if wanted > most && is_whole {
            self.too_large(length);
            return self.discard(header as u64 + length);
        }
        let there = (self.window.data().len() - header).min(wanted);
        let noted = self.notes.count;
        let mut sink = Sink { rows, notes: &mut self.notes, depth: self.limits.depth, received_ms: self.received_ms };
        protobuf::resource_spans(&mut sink, self.place, &self.window.data()[header..header + there]);
        if !is_whole && self.notes.count == noted {
            self.cut(length, there);
        }
        self.window.skip(header + there);
        Ok(())
    }

    /// A field of a protobuf document that has no length: unknown and skipped, or not protobuf.
    fn short_field(&mut self, is_short: bool) -> io::Result<()> {
        let at = self.window.consumed_bytes();
        let mut fields = Fields::new(&self.window.data()[..self.window.data().len().min(20)]);
        let message = match fields.next() {
            Ok(Some((number, _))) if number != 1 => {
                let length = fields.address() - self.window.data().as_ptr().addr();
                self.window.skip(length);
                return Ok(());
            }
            Ok(_) => "not OTLP: field 1 is not a message".to_owned(),
            Err(problem) => problem.message,
        };
        let reason = if is_short { reason::TRUNCATED } else { reason::MALFORMED };
        self.notes.add(reason, Place::default().tell(Some(at as usize)), message);
        self.content = Content::Ended;
        Ok(())
    }

    /// Reads one message behind its length.
    fn frame(&mut self, rows: &mut SpanRows) -> io::Result<()> {
        if !self.window.fill_to(1)? {
            self.content = Content::Ended;
            return Ok(());
        }
        self.place =
            Place { message: self.place.message + 1, before: self.window.consumed_bytes(), ..Place::default() };
        let Some(length) = (if self.window.fill_to(4)? { self.window.data().first_chunk::<4>() } else { None }) else {
            self.notes.add(reason::TRUNCATED, self.place.tell(Some(0)), "the object ends within a message's length");
            return self.discard(3);
        };
        let length = u32::from_be_bytes(*length);
        let most = self.limits.message_bytes;
        let wanted = (length as usize).min(most + 1);
        let is_whole = self.window.fill_to(4 + wanted)?;
        self.place.before += 4;
        if wanted > most && is_whole {
            self.too_large(u64::from(length));
            return self.discard(4 + u64::from(length));
        }
        let there = (self.window.data().len() - 4).min(wanted);
        let noted = self.notes.count;
        self.message(rows, there);
        if !is_whole && self.notes.count == noted {
            self.cut(u64::from(length), there);
        }
        self.window.skip(4 + there);
        Ok(())
    }

    /// Reads the message of `length` bytes that stands in the window behind its own length.
    fn message(&mut self, rows: &mut SpanRows, length: usize) {
        let bytes = &self.window.data()[4..4 + length];
        let mut sink = Sink { rows, notes: &mut self.notes, depth: self.limits.depth, received_ms: self.received_ms };
        let format = sniff::message(bytes);
        if !matches!(format, Format::Gzip | Format::Zstd) {
            return one_message(&mut sink, self.place, bytes, format);
        }
        let most = self.limits.message_bytes;
        let damaged = source::decompress(bytes, &mut self.frame, most);
        self.frame_bytes += self.frame.len() as u64;
        if let Err(error) = damaged {
            let reason = damage(&error).map_or(reason::CORRUPT, |damage| damage.reason);
            sink.notes.add(reason, self.place.tell(Some(0)), error.to_string());
        } else if self.frame.len() > most {
            return self.too_large(self.frame.len() as u64);
        }
        self.place.before = 0;
        one_message(&mut sink, self.place, &self.frame, sniff::message(&self.frame));
    }

    /// Reads one JSON document, or all those of one line.
    fn document(&mut self, rows: &mut SpanRows) -> io::Result<()> {
        if !self.skip_space()? {
            self.content = Content::Ended;
            return Ok(());
        }
        self.place = Place { line: self.lines + 1, before: self.window.consumed_bytes(), ..Place::default() };
        let first = self.window.data()[0];
        if first != b'{' {
            let (reason, message) = match first {
                b'[' => (reason::NOT_TRACES, "a JSON array where an OTLP/JSON document should be".to_owned()),
                _ => (reason::MALFORMED, format!("not JSON: a document cannot begin with {:?}", char::from(first))),
            };
            self.notes.add(reason, self.place.tell(Some(0)), message);
            return self.resync(|next| next.starts_with(b"{"));
        }
        let Some(end) = self.document_end()? else {
            let most = self.limits.message_bytes;
            let message =
                format!("a JSON document of more than {most} bytes, which is the most that is read (`max_message`)");
            self.notes.add(reason::TOO_LARGE, self.place.tell(Some(0)), message);
            return self.resync(lines::begins);
        };
        let text = &self.window.data()[..end];
        let mut sink = Sink { rows, notes: &mut self.notes, depth: self.limits.depth, received_ms: self.received_ms };
        documents(&mut sink, self.place, text);
        self.lines += memchr::memchr_iter(b'\n', text).count() as u64;
        self.window.skip(end);
        Ok(())
    }

    /// Steps over white space; whether anything else follows.
    fn skip_space(&mut self) -> io::Result<bool> {
        loop {
            let data = self.window.data();
            let space = data.len() - sniff::skip_space(data).len();
            let is_all = space == data.len();
            self.lines += memchr::memchr_iter(b'\n', &data[..space]).count() as u64;
            self.window.skip(space);
            if !is_all {
                return Ok(true);
            }
            if !self.window.fill()? {
                return Ok(false);
            }
        }
    }

    /// Where the document ends that begins the window; none if it is too large. It may reach over several documents of
    /// one line.
    fn document_end(&mut self) -> io::Result<Option<usize>> {
        let most = self.limits.message_bytes;
        // A line whose next line is a document of its own, and the last line, are whole documents: nothing to scan.
        let mut searched = 0;
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.window.data()[searched..]) {
                let newline = searched + length;
                self.window.fill_to(newline + 1 + lines::BEGINNING_BYTES)?;
                let next = &self.window.data()[newline + 1..];
                let is_last = next.len() < lines::BEGINNING_BYTES && next.trim_ascii().is_empty();
                if newline <= most && (lines::begins(next) || is_last) {
                    return Ok(Some(newline));
                }
                break;
            }
            searched = self.window.data().len();
            if searched > most {
                break;
            }
            if !self.window.fill()? {
                return Ok(Some(searched));
            }
        }
        let mut scanner = Scanner::default();
        let mut is_whole = false;
        loop {
            match scanner.scan(self.window.data(), is_whole) {
                Scan::End(end) => return Ok((end <= most).then_some(end)),
                Scan::More if self.window.data().len() > most => return Ok(None),
                Scan::More if is_whole => return Ok(Some(self.window.data().len())),
                Scan::More => is_whole = !self.window.fill()?,
            }
        }
    }

    /// Goes to the next line that `is_next` takes, or to the end.
    fn resync(&mut self, is_next: impl Fn(&[u8]) -> bool) -> io::Result<()> {
        loop {
            match memchr::memchr(b'\n', self.window.data()) {
                Some(newline) => {
                    self.window.skip(newline + 1);
                    self.lines += 1;
                    self.window.fill_to(lines::BEGINNING_BYTES)?;
                    if is_next(self.window.data()) {
                        return Ok(());
                    }
                }
                None => {
                    self.window.skip(self.window.data().len());
                    if !self.window.fill()? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Consumes `bytes` unread; notes it if there are not as many. A stream that breaks here is at its end.
    fn discard(&mut self, bytes: u64) -> io::Result<()> {
        let discarded = self.window.discard(bytes).inspect_err(|_| self.content = Content::Ended)?;
        if discarded < bytes {
            self.content = Content::Ended;
        }
        Ok(())
    }

    fn too_large(&mut self, length: u64) {
        let most = self.limits.message_bytes;
        let message = format!("a message of {length} bytes or more; at most {most} are read (`max_message`)");
        self.notes.add(reason::TOO_LARGE, self.place.tell(Some(0)), message);
    }

    /// Notes that the object ends within a message.
    fn cut(&mut self, length: u64, there: usize) {
        let message =
            format!("a message says that it is {length} bytes long, but the object ends after {there} of them");
        self.notes.add(reason::TRUNCATED, self.place.tell(Some(0)), message);
    }
}

/// Reads a message that is all there.
pub(super) fn one_message(sink: &mut Sink<'_>, mut place: Place, bytes: &[u8], format: Format) {
    match format {
        Format::Json => documents(sink, place, bytes),
        Format::Protobuf => {
            let before = place.before;
            let offset = |part: &[u8]| before + (part.as_ptr().addr() - bytes.as_ptr().addr()) as u64;
            let mut fields = Fields::new(bytes);
            loop {
                let (message, problem) = match fields.next() {
                    Ok(None) => return,
                    Ok(Some((1, Field::Bytes(message)))) => (message, None),
                    Ok(Some(_)) => continue,
                    Err(problem) => match fields.cut {
                        Some((1, message)) => (message, Some(problem)),
                        _ => (&bytes[bytes.len()..], Some(problem)),
                    },
                };
                place.resource += 1;
                place.before = offset(message);
                let noted = sink.notes.count;
                protobuf::resource_spans(sink, place, message);
                let Some(problem) = problem else { continue };
                if sink.notes.count == noted {
                    sink.notes.add(problem.reason, place.tell(Some(0)), problem.message);
                }
                return;
            }
        }
        _ => sink.notes.add(reason::UNKNOWN_FORMAT, place.tell(Some(0)), unknown(bytes)),
    }
}

/// Reads JSON documents one behind the other.
fn documents(sink: &mut Sink<'_>, first: Place, text: &[u8]) {
    let mut at = 0;
    loop {
        let rest = sniff::skip_space(&text[at..]);
        at = text.len() - rest.len();
        let lines = memchr::memchr_iter(b'\n', &text[..at]).count() as u64;
        // Frames have no lines.
        let line = if first.line == 0 { 0 } else { first.line + lines };
        let place = Place { line, before: first.before + at as u64, ..first };
        match rest.first() {
            None => return,
            Some(b'{') => match json::document(sink, place, rest) {
                Some(length) => at += length,
                // Behind a document that is cut another one may follow.
                None => match lines::next_beginning(rest) {
                    Some(length) => at += length,
                    None => return,
                },
            },
            Some(byte) => {
                let message = format!("not JSON: {:?} where a document should begin", char::from(*byte));
                sink.notes.add(reason::MALFORMED, place.tell(Some(0)), message);
                match lines::next_beginning(rest) {
                    Some(length) => at += length,
                    None => return,
                }
            }
        }
    }
}

fn damage(error: &io::Error) -> Option<&Damage> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<Damage>())
}

/// The number, the length of the header and the length of a length-delimited field.
fn head(data: &[u8]) -> Option<(u64, usize, u64)> {
    let Varint::Number(tag, tag_length) = varint(data) else { return None };
    let Varint::Number(length, length_length) = varint(&data[tag_length..]) else { return None };
    let is_length_delimited = tag & 7 == 2 && tag >> 3 > 0 && tag <= u64::from(u32::MAX);
    is_length_delimited.then_some((tag >> 3, tag_length + length_length, length))
}

fn unknown(data: &[u8]) -> String {
    let beginning = &data[..data.len().min(8)];
    format!("neither gzip, zstd, OTLP protobuf nor OTLP/JSON; it begins with the bytes {beginning:02x?}")
}
