// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The SDK keeps its deadlines while the broker is stopped.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use sysgenid::{Orchestrator, Result, Source, Watcher};

use super::Subject;
use super::scene::Scene;
use super::widened;
use crate::background::Background;
use crate::cases;

cases! { Subject;
    stopped_broker,
}

/// What the SDK gives a broker to answer in, where the caller names no deadline.
const ANSWER: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(200);
/// How late a call may be.
static LATE: LazyLock<Duration> = LazyLock::new(|| widened(Duration::from_secs(1)));

fn stopped_broker(subject: &Subject) {
    let scene = Scene::start(subject);
    let path = scene.path().to_owned();
    let watcher = Watcher::open_at(&path).expect("a watcher opens");
    let generation = scene.trigger().0;
    let current = watcher.wait(ANSWER).expect("the watcher sees the change");
    assert_eq!(u64::from(generation), current.get());
    let open = || Orchestrator::open_at(path.clone()).expect("an orchestrator opens");
    let (triggers, waits, lists) = (open(), open(), open());
    let source = Source::at(&path).expect("the source is there");
    scene.stop();
    let calls = [
        call("Watcher::open", ANSWER, move || {
            Watcher::open_at(path).map(drop)
        }),
        call("Orchestrator::trigger", ANSWER, move || {
            triggers.trigger().map(drop)
        }),
        call("Orchestrator::stragglers", ANSWER, move || {
            lists.stragglers().map(drop)
        }),
        call("Orchestrator::wait_for_watchers", SHORT, move || {
            waits.wait_for_watchers(SHORT).map(drop)
        }),
        call("Source::status", SHORT, move || {
            source.status(SHORT).map(drop)
        }),
    ];
    let acknowledged = call("Watcher::acknowledge", SHORT, move || {
        watcher.acknowledge(current)
    });
    for call in calls {
        let (name, done) = call.finish();
        assert!(done.is_err(), "{name} succeeds");
    }
    // This is left in shared memory, and needs no broker.
    let (_, done) = acknowledged.finish();
    done.expect("an acknowledgement");
    scene.go_on();
    scene.expect_service();
    scene.finish([]);
}

/// A call to the SDK on a separate thread.
struct Call {
    name: &'static str,
    background: Background<(Result<()>, Duration)>,
    end: Instant,
    patience: Duration,
}

fn call(
    name: &'static str,
    deadline: Duration,
    call: impl FnOnce() -> Result<()> + Send + 'static,
) -> Call {
    let patience = deadline + *LATE;
    let background = Background::start_without_waiting(move || {
        let start = Instant::now();
        let result = call();
        (result, start.elapsed())
    });
    Call {
        name,
        background,
        end: Instant::now() + patience,
        patience,
    }
}

impl Call {
    fn finish(self) -> (&'static str, Result<()>) {
        let left = self.end.saturating_duration_since(Instant::now());
        // It may have returned in time, and be looked at late.
        let grace = Duration::from_millis(100);
        let (result, took) = self.background.finish_within(left + grace, self.name);
        assert!(took <= self.patience, "{} took {took:?}", self.name);
        (self.name, result)
    }
}
