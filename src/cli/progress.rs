//! Progress bars, on a terminal only: one line a stage while a round of it runs.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::stage::Monitor;
use crate::store::Stage;
use crate::telemetry::BARS;

/// A [`Monitor`] that draws; elsewhere than on a terminal it draws nothing.
pub struct Bars {
    draws: bool,
    bars: Mutex<HashMap<Stage, ProgressBar>>,
}

impl Bars {
    /// No bar yet.
    pub fn new() -> Self {
        Self { draws: io::stderr().is_terminal(), bars: Mutex::default() }
    }

    fn with(&self, stage: Stage, act: impl FnOnce(&ProgressBar)) {
        if self.draws
            && let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).get(&stage)
        {
            act(bar);
        }
    }
}

impl Monitor for Bars {
    fn begin(&self, stage: Stage, items: u64, bytes: u64) {
        if !self.draws || items == 0 {
            return;
        }
        // Bytes where they are known: items differ in size.
        let (length, shape) = if bytes > 0 {
            (bytes, "{prefix:>8} {wide_bar:.cyan/dim} {bytes:>10} of {total_bytes:<10} {eta:>5}")
        } else {
            (items, "{prefix:>8} {wide_bar:.cyan/dim} {pos:>10} of {len:<10} {eta:>5}")
        };
        let style = ProgressStyle::with_template(shape).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = BARS.add(ProgressBar::new(length)).with_style(style.progress_chars("━━╌"));
        bar.set_prefix(stage.name());
        bar.enable_steady_tick(Duration::from_millis(200));
        let old = self.bars.lock().unwrap_or_else(PoisonError::into_inner).insert(stage, bar);
        if let Some(old) = old {
            old.finish_and_clear();
        }
    }

    fn advance(&self, stage: Stage, items: u64, bytes: u64) {
        self.with(stage, |bar| bar.inc(if bytes > 0 { bytes } else { items }));
    }

    fn end(&self, stage: Stage) {
        if let Some(bar) = self.bars.lock().unwrap_or_else(PoisonError::into_inner).remove(&stage) {
            bar.finish_and_clear();
        }
    }
}
