//! Digests as they stand in a block: a zstd frame of JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Result, ResultExt};

/// What a digest may grow to when it is unpacked: no block of ours comes near it, and a forged one ends here.
const MAX_BYTES: usize = 512 << 20;
/// Written once, read often.
const LEVEL: i32 = 9;

/// The bytes of `digest`.
pub(super) fn write<T: Serialize>(digest: &T) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(digest).context("write a digest")?;
    Ok(zstd::bulk::compress(&json, LEVEL).context("compress a digest")?)
}

/// The digest in `bytes`.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let length = zstd::bulk::Decompressor::upper_bound(bytes).unwrap_or(MAX_BYTES);
    let json = zstd::bulk::decompress(bytes, length.min(MAX_BYTES)).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}
