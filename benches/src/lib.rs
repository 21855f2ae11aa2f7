// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the benches share: bounds, as ratios of one run.
//!
//! Machines are noisy, so a number of nanoseconds says little about the next run. What is bounded
//! is a ratio, or a difference: the two sides take turns within one run, and the median of the
//! rounds counts. Beside it stands the interval that holds the true median with a confidence of
//! 95 %, from the order of the rounds alone: nothing is assumed about how the noise is distributed.

pub mod aws_lc;
pub mod process;
mod results;
mod stand_in;
mod subject;
pub mod vdso;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use criterion::Criterion;

use crate::results::Results;
pub use crate::results::{Bound, RESULTS};
pub use crate::stand_in::{send_notice, stand_in, write_eventfd};
pub use crate::subject::{Page, Subject, without_source};

/// Cargo turns the features on that any package of a build asks for, and with this one each look
/// asks first whether a test plays. Tests of the benches are built without optimisation, and measure
/// nothing.
const _: () = assert!(
    cfg!(debug_assertions) || !sysgenid::IS_TESTING,
    "the feature `testing` of sysgenid is on: build the benches alone"
);

/// Rounds in which the two sides take turns.
pub const ROUNDS: usize = 101;

/// How far from the middle of so many sorted rounds the interval reaches: the binomial
/// distribution puts the true median outside of it with a probability of less than 5 %.
const REACH: usize = 10;

/// Criterion for what takes nanoseconds: a second or two are as many repetitions as help.
#[must_use]
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args()
}

/// Bounds that were looked at, and how many were broken.
#[derive(Debug)]
pub struct Bounds {
    broken: usize,
    skipped: bool,
    results: Results,
}

/// What was measured in the rounds: their median, and its interval.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// The median of the rounds.
    pub median: f64,
    /// The interval, for what was measured more than once.
    pub interval: Option<(f64, f64)>,
}

impl Measured {
    /// The median of what the rounds gave.
    #[must_use]
    pub fn of(mut rounds: Vec<f64>) -> Self {
        rounds.sort_by(f64::total_cmp);
        let at = |index: usize| rounds.get(index).copied().unwrap_or(f64::NAN);
        let middle = rounds.len() / 2;
        Self {
            median: at(middle),
            interval: Some((at(middle.saturating_sub(REACH)), at(middle + REACH))),
        }
    }

    /// How many times `other` this is. The interval is as wide as the two allow.
    #[must_use]
    pub fn to(&self, other: &Self) -> Self {
        let both = self.interval.zip(other.interval);
        Self {
            median: self.median / other.median,
            interval: both.map(|(ours, theirs)| (ours.0 / theirs.1, ours.1 / theirs.0)),
        }
    }
}

impl From<f64> for Measured {
    fn from(once: f64) -> Self {
        Self {
            median: once,
            interval: None,
        }
    }
}

impl Bounds {
    /// `cargo bench -- --test` and `cargo test --benches` only ask whether the benches run: nothing
    /// is bounded then.
    #[must_use]
    pub fn new() -> Self {
        let skipped = !std::env::args().any(|argument| argument == "--bench")
            || std::env::args().any(|argument| argument == "--test");
        Self {
            broken: 0,
            skipped,
            results: Results::open(),
        }
    }

    /// Whether bounds are measured in this run.
    #[must_use]
    pub fn measured(&self) -> bool {
        !self.skipped
    }

    /// Measures how many times as long `over` takes as `under`, and prints it beside the bound.
    /// Each does the same number of iterations; `settle` is called before each and not timed.
    pub fn ratio(
        &mut self,
        name: &str,
        bound: Bound,
        settle: impl Fn(),
        mut over: impl FnMut(),
        mut under: impl FnMut(),
    ) {
        let after_settling = |work: &mut dyn FnMut()| {
            settle();
            timed(work)
        };
        self.ratio_of(
            name,
            bound,
            || after_settling(&mut over),
            || after_settling(&mut under),
        );
    }

    /// The same for sides that measure themselves how long it took.
    pub fn ratio_of(
        &mut self,
        name: &str,
        bound: Bound,
        over: impl FnMut() -> Duration,
        under: impl FnMut() -> Duration,
    ) {
        if self.measured() {
            let ratio = |over: Duration, under: Duration| over.as_secs_f64() / under.as_secs_f64();
            self.report(name, turns(over, under, ratio), bound, "times");
        }
    }

    /// Measures how many nanoseconds `over` takes longer than `under` for each of `iterations`.
    pub fn difference(
        &mut self,
        name: &str,
        bound: Bound,
        iterations: u32,
        mut over: impl FnMut(),
        mut under: impl FnMut(),
    ) {
        if self.measured() {
            let difference = |over: Duration, under: Duration| {
                (over.as_secs_f64() - under.as_secs_f64()) * 1e9 / f64::from(iterations)
            };
            let measured = turns(|| timed(&mut over), || timed(&mut under), difference);
            self.report(name, measured, bound, "ns");
        }
    }

    /// Prints a measured value beside its bound.
    pub fn report(&mut self, name: &str, measured: impl Into<Measured>, bound: Bound, unit: &str) {
        let measured = measured.into();
        let kept = bound.holds(measured.median);
        let median = measured.median;
        match bound.limit(unit) {
            Some(limit) if kept => println!("bound kept: {name}: {median:.3} {unit}, {limit}"),
            Some(limit) => println!("bound BROKEN: {name}: {median:.3} {unit}, {limit}"),
            None => println!("no bound: {name}: {median:.3} {unit}"),
        }
        self.results.bound(name, measured, bound, unit);
        self.broken += usize::from(!kept);
    }

    /// Prints a point of a curve, which the report draws with what bounds it: what something takes
    /// where there are so many.
    pub fn point(
        &mut self,
        curve: &str,
        series: &str,
        at: u32,
        measured: Measured,
        bound: Bound,
        unit: &str,
    ) {
        println!("{curve}, {series}: {at}: {:.3} {unit}", measured.median);
        self.results.point((curve, series), at, measured, bound);
    }

    /// Prints something that a reader of the numbers must know, found out at run time.
    pub fn fact(&mut self, name: &str, value: &str) {
        println!("{name}: {value}");
        self.results.fact(name, value);
    }

    /// Fails the bench if a bound was broken.
    #[must_use]
    pub fn verdict(&self) -> ExitCode {
        if self.broken == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self::new()
    }
}

/// How often [`repeat`] does it.
pub const REPEATED: u32 = 8_000 * 32;

/// Does something often: 32 times in a row and not in a loop, because what takes less than a cycle
/// hides in a loop, which takes one. Each has a use of its own, or the compiler would fold those it
/// may into other instructions: a volatile load may not be.
#[inline]
pub fn repeat<T>(mut what: impl FnMut() -> T) {
    macro_rules! twice {
        ($what:expr) => {
            ($what, $what)
        };
    }
    for _ in 0..REPEATED / 32 {
        twice!(twice!(twice!(twice!(twice!(drop(black_box(what())))))));
    }
}

/// Lets the two sides take turns, and compares them in each round. Who begins changes from round to
/// round.
fn turns(
    mut over: impl FnMut() -> Duration,
    mut under: impl FnMut() -> Duration,
    compare: impl Fn(Duration, Duration) -> f64,
) -> Measured {
    let rounds = (0..ROUNDS).map(|round| {
        if round % 2 == 0 {
            let first = over();
            compare(first, under())
        } else {
            let first = under();
            compare(over(), first)
        }
    });
    Measured::of(rounds.collect())
}

/// How long it takes.
pub fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}
