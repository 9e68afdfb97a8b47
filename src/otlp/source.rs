//! The bytes of an object, decompressed as often as they were compressed, through a buffer of bounded size.

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

use super::bad::reason;

/// How much is read at once. What a corrupt deflate stream yielded in the read that failed is lost: so not much.
const READ_BYTES: usize = 16 << 10;

/// A buffer starts with this much.
const BUFFER_BYTES: usize = 64 << 10;

pub(super) const GZIP: &[u8] = &[0x1f, 0x8b];
pub(super) const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Frames whose window is larger (128 MiB) are refused: what `zstd --long` writes can still be read.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A part of a stream that is in memory: what was read and not yet consumed.
#[derive(Debug)]
pub(super) struct Window<S> {
    source: S,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// How many bytes were consumed.
    consumed: u64,
    ended: bool,
}

impl<S: Read> Window<S> {
    pub(super) fn new(source: S) -> Self {
        Self { source, buffer: Vec::new(), start: 0, end: 0, consumed: 0, ended: false }
    }

    /// What is there.
    pub(super) fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Where the data begin in the stream.
    pub(super) fn consumed_bytes(&self) -> u64 {
        self.consumed
    }

    /// How much was read.
    pub(super) fn read_bytes(&self) -> u64 {
        self.consumed + (self.end - self.start) as u64
    }

    /// Reads until at least `bytes` are there; whether they are (the stream may end before).
    pub(super) fn fill_to(&mut self, bytes: usize) -> io::Result<bool> {
        while self.end - self.start < bytes {
            if !self.fill()? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a little more; whether there was any.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.end == self.buffer.len() {
            self.make_room();
        }
        let room = READ_BYTES.min(self.buffer.len() - self.end);
        match self.source.read(&mut self.buffer[self.end..self.end + room]) {
            Ok(read) => {
                self.ended = read == 0;
                self.end += read;
                Ok(read > 0)
            }
            Err(error) => {
                self.ended = true;
                Err(error)
            }
        }
    }

    /// Moves the data to the front if that makes half of the buffer free, else doubles it: each byte moves seldom.
    fn make_room(&mut self) {
        if self.start > self.buffer.len() / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        } else {
            self.buffer.resize((self.buffer.len() * 2).max(BUFFER_BYTES), 0);
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        debug_assert!(bytes <= self.end - self.start, "only what is there can be consumed");
        self.start += bytes;
        self.consumed += bytes as u64;
    }

    /// Consumes `bytes` without keeping them; how many there were.
    pub(super) fn discard(&mut self, bytes: u64) -> io::Result<u64> {
        let mut left = bytes;
        loop {
            let here = (self.data().len() as u64).min(left);
            self.skip(here as usize);
            left -= here;
            if left == 0 || !self.fill()? {
                return Ok(bytes - left);
            }
        }
    }
}

impl<S: Read> Read for Window<S> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let data = self.fill_buf()?;
        let length = data.len().min(out.len());
        out[..length].copy_from_slice(&data[..length]);
        self.consume(length);
        Ok(length)
    }
}

impl<S: Read> BufRead for Window<S> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.end {
            self.fill()?;
        }
        Ok(self.data())
    }

    fn consume(&mut self, bytes: usize) {
        self.skip(bytes);
    }
}

/// A stream with so and so many layers of compression taken off.
pub(super) enum Stream<R: Read> {
    Plain(Body<R>),
    Gzip(Gunzip<R>),
    Zstd(Box<Unzstd<R>>),
    /// While a layer is put on.
    Nothing,
}

impl<R: Read> Stream<R> {
    pub(super) fn new(body: R) -> Self {
        Self::Plain(Body(body))
    }

    /// Takes off one more layer: `window` holds the beginning of a gzip or zstd stream.
    pub(super) fn gunzip(window: Window<Self>) -> Self {
        Self::Gzip(Gunzip::Member(Box::new(GzDecoder::new(window))))
    }

    /// Takes off one more layer.
    pub(super) fn unzstd(window: Window<Self>) -> io::Result<Self> {
        Ok(Self::Zstd(Box::new(Unzstd(zstd_decoder(window)?))))
    }
}

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(body) => body.read(out),
            Self::Gzip(gunzip) => gunzip.read(out),
            Self::Zstd(unzstd) => unzstd.0.read(out).map_err(zstd_damage),
            Self::Nothing => Ok(0),
        }
    }
}

/// The object's own bytes. Its errors are told apart from those of decompression.
pub(super) struct Body<R>(R);

/// The object's own bytes could not be read.
#[derive(Debug, thiserror::Error)]
#[error("the body cannot be read")]
pub(super) struct BodyError(#[source] pub(super) io::Error);

impl<R: Read> Read for Body<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(out) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io::Error::other(BodyError(error))),
                Ok(read) => return Ok(read),
            }
        }
    }
}

/// What is compressed is damaged.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Damage {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

fn damage(reason: &'static str, message: impl Into<String>) -> io::Error {
    io::Error::other(Damage { reason, message: message.into() })
}

fn is_ours(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<BodyError>() || inner.is::<Damage>())
}

/// The members of a gzip stream, one behind the other.
pub(super) enum Gunzip<R: Read> {
    Member(Box<GzDecoder<Window<Stream<R>>>>),
    Ended,
}

impl<R: Read> Read for Gunzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Self::Member(member) = self else { return Ok(0) };
            match member.read(out) {
                Ok(0) if !out.is_empty() => {
                    let Self::Member(member) = std::mem::replace(self, Self::Ended) else { return Ok(0) };
                    *self = next_member(member.into_inner())?;
                }
                Err(error) if !is_ours(&error) => return Err(gzip_damage(&error)),
                result => return result,
            }
        }
    }
}

/// What stands behind a gzip member: another one, the end, or zeros up to the end (padding of tapes and disks).
fn next_member<R: Read>(mut window: Window<Stream<R>>) -> io::Result<Gunzip<R>> {
    let mut zeros = 0u64;
    while window.fill_to(1)? && window.data()[0] == 0 {
        let count = window.data().iter().take_while(|byte| **byte == 0).count();
        window.skip(count);
        zeros += count as u64;
    }
    window.fill_to(GZIP.len())?;
    match window.data() {
        [] => Ok(Gunzip::Ended),
        data if data.starts_with(GZIP) && zeros == 0 => Ok(Gunzip::Member(Box::new(GzDecoder::new(window)))),
        _ => {
            let at = window.consumed_bytes() - zeros;
            Err(damage(
                reason::CORRUPT,
                format!("what stands behind the gzip stream, from its byte {at} on, is not gzip"),
            ))
        }
    }
}

fn gzip_damage(error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damage(reason::TRUNCATED, "the gzip stream ends in the middle"),
        _ => damage(reason::CORRUPT, format!("the gzip stream is damaged: {error}")),
    }
}

/// The frames of a zstd stream, one behind the other.
pub(super) struct Unzstd<R: Read>(zstd::stream::read::Decoder<'static, Window<Stream<R>>>);

/// Decompresses zstd frames.
pub(super) fn zstd_decoder<B: BufRead>(input: B) -> io::Result<zstd::stream::read::Decoder<'static, B>> {
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG)?;
    Ok(decoder)
}

pub(super) fn zstd_damage(error: io::Error) -> io::Error {
    match error.kind() {
        _ if is_ours(&error) => error,
        io::ErrorKind::UnexpectedEof => damage(reason::TRUNCATED, "the zstd stream ends in the middle"),
        _ => damage(reason::CORRUPT, format!("the zstd stream is damaged: {error}")),
    }
}

/// A compressed frame, decompressed whole into `out` up to `limit` bytes (one more tells that there are more). What
/// could be decompressed before an error stands in `out`.
pub(super) fn decompress(frame: &[u8], out: &mut Vec<u8>, limit: usize) -> io::Result<()> {
    out.clear();
    let limit = limit as u64 + 1;
    let mut read = |source: &mut dyn Read| {
        let mut source = source.take(limit);
        let mut chunk = [0; READ_BYTES];
        loop {
            match source.read(&mut chunk)? {
                0 => return Ok(()),
                length => out.extend_from_slice(&chunk[..length]),
            }
        }
    };
    if frame.starts_with(GZIP) {
        read(&mut Stream::gunzip(Window::new(Stream::new(frame))))
    } else {
        read(&mut zstd_decoder(frame)?).map_err(zstd_damage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn read(input: &[u8]) -> (Vec<u8>, Option<String>) {
        let mut stream = Stream::gunzip(Window::new(Stream::new(input)));
        let mut out = Vec::new();
        let error = stream.read_to_end(&mut out).err();
        (out, error.map(|error| error.to_string()))
    }

    #[test]
    fn members_follow_each_other() {
        let (a, b) = (gzip(b"first "), gzip(b"second"));
        assert_eq!(read(&[&a[..], &b].concat()), (b"first second".to_vec(), None));
        assert_eq!(read(&[&a[..], &[0; 1000]].concat()), (b"first ".to_vec(), None), "padding");
        for junk in [&b"garbage"[..], b"\0garbage", &[0x1f]] {
            let (out, error) = read(&[&a[..], junk].concat());
            assert_eq!(out, b"first ");
            assert!(error.unwrap().contains(&format!("byte {}", a.len())));
        }
        let (out, error) = read(&[&a[..], &b[..b.len() - 3]].concat());
        assert_eq!(out, b"first second");
        assert!(error.unwrap().contains("ends in the middle"));
    }

    #[test]
    fn an_error_of_the_body_is_not_damage() {
        struct Cut;
        impl Read for Cut {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let whole = gzip(b"text");
        let mut stream = Stream::gunzip(Window::new(Stream::new(whole[..20].chain(Cut))));
        let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.get_ref().unwrap().is::<BodyError>());
    }

    #[test]
    fn a_window_keeps_what_is_not_consumed() {
        let data: Vec<u8> = (0..1_000_000u32).map(|number| (number % 251) as u8).collect();
        let mut window = Window::new(&data[..]);
        let mut at = 0;
        for step in [1, 70_000, 16 << 10, 500_000, 3, 64 << 10] {
            assert!(window.fill_to(step).unwrap());
            assert_eq!(window.data()[..step], data[at..at + step]);
            window.skip(step);
            at += step;
        }
        assert_eq!(window.discard(u64::MAX).unwrap(), (data.len() - at) as u64);
        assert_eq!(window.consumed_bytes(), data.len() as u64);
        assert!(!window.fill_to(1).unwrap());
    }
}
