//! The receiver's numbers in Prometheus' text format, and its health.

use std::fmt::{Error, Result};
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Counts, Receiver};
use crate::clock::Clock;
use crate::farm::health::metrics::Page;
use crate::farm::health::server::Vital;
use crate::farm::health::systemd::Service;
use crate::farm::health::{Health, Status};

/// The receiver of this process, for those who ask how it is.
pub struct Vitals {
    counts: Arc<Counts>,
    registry: Registry,
}

impl Vitals {
    /// Of `receiver`, which it does not hold.
    pub fn new(receiver: &Receiver, clock: Clock) -> Self {
        let mut registry = Registry::default();
        let started = clock.wall().as_duration().as_secs_f64() - clock.monotonic().as_secs_f64();
        let counts = receiver.counts().clone();
        registry.register_collector(Box::new(Numbers { counts: counts.clone(), clock, started }));
        Self { counts, registry }
    }
}

impl Vital for Vitals {
    /// Another process would find the store as it is.
    fn health(&self) -> Health {
        match self.counts.told().failing {
            true => Health { status: Status::Degraded, reason: Some("the last batch could not be written".to_owned()) },
            false => Health { status: Status::Ok, reason: None },
        }
    }

    fn metrics(&self) -> std::result::Result<String, Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// For systemd: it is told when requests are taken.
impl Service for Arc<Counts> {
    fn status(&self) -> String {
        let told = self.told();
        let requests = told.accepted + told.partly;
        let failing = if told.failing { "; the last batch could not be written" } else { "" };
        format!("{requests} requests taken, {} spans, in {} objects{failing}", told.spans, told.objects)
    }
}

#[derive(Debug)]
struct Numbers {
    counts: Arc<Counts>,
    clock: Clock,
    /// When the process started, in seconds since 1970.
    started: f64,
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result {
        let told = self.counts.told();
        let mut page = Page(encoder);
        let requests = [("accepted", told.accepted), ("partly", told.partly)].into_iter().chain(told.refused);
        let requests = requests.map(|(outcome, count)| ([("outcome", outcome)], count as f64));
        let help = "Requests by what became of them: accepted, partly (some spans refused), or why they were refused";
        page.family("tracefarm_receive_requests", help, MetricType::Counter, requests)?;
        for (name, help, value) in [
            ("tracefarm_receive_spans", "Spans taken: durable, and answered", told.spans),
            ("tracefarm_receive_refused_spans", "Spans of accepted requests that cannot be read", told.refused_spans),
            ("tracefarm_receive_message_bytes", "Bytes of messages taken, unpacked", told.message_bytes),
            ("tracefarm_receive_objects", "Objects written into the inbox", told.objects),
            ("tracefarm_receive_object_bytes", "Bytes of these objects", told.object_bytes),
            ("tracefarm_receive_failed_objects", "Objects that could not be written", told.failed_objects),
        ] {
            page.counter(name, help, value as f64)?;
        }
        page.process(&self.clock, self.started)
    }
}
