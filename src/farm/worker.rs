//! The worker's loop.
