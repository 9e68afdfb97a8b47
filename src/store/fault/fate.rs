//! What happens to a call.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio_util::sync::CancellationToken;

use super::client::Call;

/// Decides the fate of each call of a client, in the order in which they are made.
pub type Script = Box<dyn FnMut(&Call) -> Fate + Send>;

/// What happens to one call: incidents, its effect, incidents, its answer.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// Before the store does what is asked.
    pub before: Vec<Incident>,
    /// After it has, before the answer arrives.
    pub after: Vec<Incident>,
    /// The body of the answer breaks off after this fraction of its bytes.
    pub cut: Option<f64>,
}

/// Something that comes between a worker and its store.
#[derive(Clone, Debug)]
pub enum Incident {
    /// The network takes this long.
    Wait(Duration),
    /// The connection breaks. After the effect: only the answer is lost.
    Fail,
    /// The worker dies here: this call and all its others never return, and [`super::Client::live`] ends.
    Crash,
    /// The whole worker stands still this long (a paused machine), then goes on as if nothing had been.
    Freeze(Duration),
    /// The whole worker stands still until the test opens the gate.
    FreezeUntil(Gate),
    /// The call alone waits here until the test opens the gate.
    Hold(Gate),
}

impl Fate {
    /// Nothing happens.
    pub fn calm() -> Self {
        Self::default()
    }

    /// `incident` happens before the effect.
    pub fn before(incident: Incident) -> Self {
        Self { before: vec![incident], ..Self::default() }
    }

    /// `incident` happens after the effect.
    pub fn after(incident: Incident) -> Self {
        Self { after: vec![incident], ..Self::default() }
    }
}

/// A place where a call waits for the test.
#[derive(Clone, Default)]
pub struct Gate {
    reached: CancellationToken,
    opened: CancellationToken,
}

impl Gate {
    /// A closed gate.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether calls pass.
    pub fn is_open(&self) -> bool {
        self.opened.is_cancelled()
    }

    /// Waits until a call stands before it.
    pub async fn reached(&self) {
        self.reached.cancelled().await;
    }

    /// Whether a call stands, or stood, before it.
    pub fn is_reached(&self) -> bool {
        self.reached.is_cancelled()
    }

    /// Lets calls pass from now on.
    pub fn open(&self) {
        self.opened.cancel();
    }

    pub(super) async fn pass(&self) {
        self.reached.cancel();
        self.opened.cancelled().await;
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate(reached: {}, open: {})", self.reached.is_cancelled(), self.opened.is_cancelled())
    }
}

/// How unkind chance is: probabilities for each call, drawn from a seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Faults {
    /// The network's wait on either side of the effect, from (milliseconds).
    pub latency_from_ms: f64,
    /// The network's wait, to; between the two its logarithm is uniform.
    pub latency_to_ms: f64,
    /// The connection breaks before the effect.
    pub fail_before: f64,
    /// The answer is lost.
    pub fail_after: f64,
    /// The body of the answer breaks off.
    pub cut: f64,
    /// The worker dies: half of the times before the effect, half after it.
    pub crash: f64,
    /// The worker stands still, before or after the effect, likewise.
    pub freeze: f64,
    /// For so long at most; its logarithm is uniform from one second.
    pub freeze_at_most: Duration,
}

impl Faults {
    /// A good day: short waits, nothing else.
    pub const CALM: Self = Self {
        latency_from_ms: 1.0,
        latency_to_ms: 100.0,
        fail_before: 0.0,
        fail_after: 0.0,
        cut: 0.0,
        crash: 0.0,
        freeze: 0.0,
        freeze_at_most: Duration::ZERO,
    };

    /// A script that draws each call's fate from `seed`.
    pub fn script(self, seed: u64) -> Script {
        let mut chance = StdRng::seed_from_u64(seed);
        Box::new(move |_| self.draw(&mut chance))
    }

    fn draw(&self, chance: &mut StdRng) -> Fate {
        let mut between = |from: f64, to: f64| (from.ln() + chance.random::<f64>() * (to.ln() - from.ln())).exp();
        let wait = |ms: f64| Incident::Wait(Duration::from_micros((ms * 1000.0) as u64));
        let mut fate = Fate {
            before: vec![wait(between(self.latency_from_ms, self.latency_to_ms))],
            after: vec![wait(between(self.latency_from_ms, self.latency_to_ms))],
            cut: None,
        };
        let stands_still = Duration::from_secs_f64(between(1.0, self.freeze_at_most.as_secs_f64().max(1.0)));
        // One number decides, so that a probability of zero leaves all later fates as they were.
        let mut number = chance.random::<f64>();
        let late = chance.random::<bool>();
        let part = chance.random::<f64>();
        let mut falls = |probability: f64| {
            let hit = number < probability;
            number -= probability;
            // Negative from here on only if it hit: then no other may.
            if hit {
                number = 1.0;
            }
            hit
        };
        if falls(self.fail_before) {
            fate.before.push(Incident::Fail);
        }
        if falls(self.fail_after) {
            fate.after.push(Incident::Fail);
        }
        if falls(self.cut) {
            fate.cut = Some(part);
        }
        let side = if late { &mut fate.after } else { &mut fate.before };
        if falls(self.crash) {
            side.push(Incident::Crash);
        }
        if falls(self.freeze) {
            side.push(Incident::Freeze(stands_still));
        }
        fate
    }
}
