//! What `get`, `search` and `serve` share.
