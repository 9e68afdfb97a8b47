//! The stores that tests run on: a directory always, and the servers that `scripts/servers` started.

use tempfile::TempDir;
use tracefarm::clock::Clock;
use ulid::Ulid;

/// An empty store, which nobody else uses.
pub struct Place {
    /// What a user would give.
    pub url: String,
    /// Goes away with it.
    _folder: Option<TempDir>,
}

/// An empty store of each kind under test. Without `scripts/servers` that is a directory alone, and the test says so.
pub fn places() -> Vec<Place> {
    let folder = tempfile::tempdir().unwrap();
    let mut places = vec![Place { url: folder.path().display().to_string(), _folder: Some(folder) }];
    let servers = std::env::var("TRACEFARM_SERVERS").unwrap_or_default();
    if servers.is_empty() {
        println!("only a directory is tried: `scripts/servers cargo test …` starts S3, GCS and Azure servers");
    }
    for bucket in servers.split_whitespace() {
        places.push(Place { url: format!("{bucket}/{}", name()), _folder: None });
    }
    places
}

/// A name that nobody else has.
pub fn name() -> Ulid {
    clock().ulid()
}

/// The machine's clock.
pub fn clock() -> Clock {
    Clock::system(jiff::SignedDuration::ZERO)
}
