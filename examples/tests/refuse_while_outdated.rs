// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The layer of `refuse_while_outdated`, at moments that the example cannot show.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../refuse_while_outdated/layer.rs"]
mod layer;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header::RETRY_AFTER};
use axum::routing::get;
use sysgenid::{Generation, Orchestrator, Watcher};
use tower::{Layer, Service};

use layer::RefuseWhileOutdated;

/// A broker, a watcher of it, and a service behind the layer, whose handler counts its calls and
/// then does something.
struct Played {
    orchestrator: Arc<Orchestrator>,
    watcher: Watcher,
    gate: RefuseWhileOutdated,
    router: Router,
    calls: Arc<AtomicUsize>,
    _broker: sysgenid_broker::Background,
    _folder: tempfile::TempDir,
}

fn play(handler: fn(&Orchestrator)) -> Played {
    let folder = tempfile::tempdir().unwrap();
    let broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let orchestrator = Arc::new(Orchestrator::open_at(folder.path()).unwrap());
    let watcher = Watcher::open_at(folder.path()).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let answer = {
        let (orchestrator, calls) = (Arc::clone(&orchestrator), Arc::clone(&calls));
        async move || {
            calls.fetch_add(1, Ordering::Relaxed);
            handler(&orchestrator);
        }
    };
    Played {
        gate: RefuseWhileOutdated::new(watcher.probe().unwrap()),
        router: Router::new().route("/", get(answer)),
        orchestrator,
        watcher,
        calls,
        _broker: broker,
        _folder: folder,
    }
}

impl Played {
    /// The status of an answer, after so many calls of the handler.
    async fn ask(&self) -> (StatusCode, usize) {
        let mut service = self.gate.layer(self.router.clone());
        let answer = service.call(Request::new(Body::empty())).await.unwrap();
        let refused = answer.status() == StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(answer.headers().contains_key(RETRY_AFTER), refused);
        (answer.status(), self.calls.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn the_handler_does_not_see_what_is_refused() {
    let played = play(|_| {});
    let refused = StatusCode::SERVICE_UNAVAILABLE;
    assert_eq!(played.ask().await, (refused, 0), "not opened yet");
    played.gate.open(played.watcher.generation());
    assert_eq!(played.ask().await, (StatusCode::OK, 1));

    let generation = played.orchestrator.trigger().unwrap();
    assert_eq!(played.ask().await, (refused, 1));
    played.watcher.acknowledge(generation).unwrap();
    played.gate.open(generation);
    assert_eq!(played.ask().await, (StatusCode::OK, 2));
}

#[tokio::test]
async fn it_is_not_opened_for_a_generation_that_is_over() {
    let played = play(|_| {});
    played.orchestrator.trigger().unwrap();
    played.gate.open(Generation::new(0));
    assert_eq!(played.ask().await, (StatusCode::SERVICE_UNAVAILABLE, 0));
}

#[tokio::test]
async fn an_answer_across_a_change_is_not_given_away() {
    let played = play(|orchestrator| {
        orchestrator.trigger().unwrap();
    });
    played.gate.open(played.watcher.generation());
    assert_eq!(played.ask().await, (StatusCode::SERVICE_UNAVAILABLE, 1));
}
