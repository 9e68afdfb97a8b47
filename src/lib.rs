//! tracefarm turns a bucket of OpenTelemetry traces into handlers, Parquet and pages.
//!
//! ```text
//! collectors ──▶ inbox/ ──▶ [ index ─▶ compact ─▶ publish ─▶ expire ] ──▶ spans/ entries/ latest/ site/
//!                             any number of workers, each on its slice        read by people and SQL engines
//! ```
//!
//! The way of the data is the order of the modules: [`otlp`] → [`handler`] → [`table`] → [`store`], driven by
//! [`stage`], shared out by [`farm`], read by [`query`] and [`serve`]; [`receive`] fills the inbox. Arrows go one way:
//! nothing below knows `stage`, `farm`, `serve` or `cli`; nothing but [`store::layout`] knows a key; nothing but [`cli`]
//! knows a terminal.

// What cannot fail says so with `#[expect(clippy::unwrap_used, reason = "…")]`; only the command line prints.
#![warn(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

pub mod cli;
pub mod clock;
pub mod config;
pub mod error;
pub mod farm;
pub mod handler;
pub mod model;
pub mod otlp;
pub mod query;
pub mod receive;
pub mod serve;
pub mod site;
pub mod stage;
pub mod store;
pub mod table;
pub mod task;
pub mod telemetry;
