//! The farm: the worker's loop, its heartbeat and the store's clock, peers, strikes, settings.

pub mod documents;
pub mod heartbeat;
pub mod peers;
pub mod settings;
pub mod slice;
pub mod strikes;
pub mod worker;

pub use heartbeat::{Heart, StoreClock};
pub use settings::Settings;
