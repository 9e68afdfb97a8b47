//! An object store for simulations, kept in memory. For tests only.
//!
//! A [`Bucket`] holds the objects; its times are a simulated [`Clock`]'s. Each logical worker has a [`Client`] of its
//! own, an [`ObjectStore`] whose every call (a page of a listing is one) meets a [`Fate`]: it waits, fails before or
//! after its effect, has its body cut, is the last of a worker that dies there ([`Incident::Crash`]), or is held while
//! the rest of the world goes on ([`Incident::Hold`], [`Incident::Freeze`]). On a runtime of one thread with paused
//! time the waits decide the order of everything, so that a seed replays a run exactly.
//!
//! It is as harsh as a real store may be: equal bytes have equal etags, last-modified has whole seconds, a listing's
//! pages are taken at different moments. It notes what no correct farm does ([`Bucket::breaches`]).

mod bucket;
mod client;
mod fate;

pub use bucket::{Bucket, Stored, Watcher};
pub use client::{Call, CallKind, Client};
pub use fate::{Fate, Faults, Gate, Incident, Script};

#[cfg(doc)]
use crate::clock::Clock;
#[cfg(doc)]
use object_store::ObjectStore;

#[cfg(test)]
mod tests;
