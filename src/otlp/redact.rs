//! Attributes that lose their values before anything is stored.

/// Which attributes are dropped or hashed (`redact` in the settings): globs over attribute keys, of spans, events,
/// links, scopes and resources.
#[derive(Clone, Debug, Default)]
pub struct Redact {}
