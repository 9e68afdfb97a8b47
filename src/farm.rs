//! The farm: the worker's loop, its heartbeat and the store's clock, settings. (Peers: a worker is alone for now.)

pub mod documents;
pub mod heartbeat;
pub mod settings;
pub mod slice;
pub mod worker;

pub use heartbeat::{Heart, StoreClock};
pub use settings::Settings;
