//! The farm: the worker's loop, its heartbeat and the store's clock, its intents, peers, strikes, settings, and what it
//! tells of itself: record, heartbeats, health.

pub mod documents;
pub mod health;
pub mod heartbeat;
pub mod intent;
pub mod peers;
pub mod record;
pub mod settings;
pub mod simulate;
pub mod slice;
pub mod strikes;
pub mod worker;

pub use heartbeat::{Heart, StoreClock};
pub use record::Record;
pub use settings::Settings;
