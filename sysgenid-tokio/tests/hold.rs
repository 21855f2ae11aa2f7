// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is held across an await, and the gate in front of a service.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation is a failed test"
)]

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::Poll;

use sysgenid::testing::Restores;
use sysgenid_tokio::SharedGuarded;
use tokio::sync::Semaphore;

/// A guard whose builds count themselves, and await a permit each.
struct Scene {
    world: Restores,
    builds: Arc<AtomicU32>,
    permits: Arc<Semaphore>,
    guarded: SharedGuarded<u32, Restores>,
}

impl Scene {
    fn new(
        outcome: impl Fn(u32) -> Result<u32, sysgenid::BuildError> + Send + Sync + 'static,
    ) -> Self {
        let (world, builds) = (Restores::new(), Arc::new(AtomicU32::new(0)));
        let permits = Arc::new(Semaphore::new(0));
        let (counter, needed) = (Arc::clone(&builds), Arc::clone(&permits));
        let outcome = Arc::new(outcome);
        let guarded = SharedGuarded::with_witness(world.clone(), move |_| {
            let number = counter.fetch_add(1, SeqCst) + 1;
            let (needed, outcome) = (Arc::clone(&needed), Arc::clone(&outcome));
            async move {
                needed.acquire().await?.forget();
                outcome(number)
            }
        });
        Self {
            world,
            builds,
            permits,
            guarded,
        }
    }
}

#[tokio::test]
async fn tasks_build_once_for_a_change() {
    let scene = Arc::new(Scene::new(Ok));
    for round in 1..=3 {
        let users: Vec<_> = (0..4)
            .map(|_| {
                let scene = Arc::clone(&scene);
                tokio::spawn(async move { *scene.guarded.load().await.unwrap().get().unwrap() })
            })
            .collect();
        tokio::task::yield_now().await;
        scene.permits.add_permits(1);
        for user in users {
            assert_eq!(user.await.unwrap(), round);
        }
        scene.world.restore();
    }
    assert_eq!(scene.builds.load(SeqCst), 3);
}

#[tokio::test]
async fn what_is_held_is_refused_after_a_change() {
    let scene = Scene::new(Ok);
    scene.permits.add_permits(2);
    let held = scene.guarded.load().await.unwrap();
    held.check().unwrap();
    scene.world.restore();
    assert!(held.get().is_err() && held.check().is_err());
    assert_eq!(scene.guarded.with(|value| *value).await.unwrap(), 2);
}

#[tokio::test]
async fn a_result_across_a_change_is_computed_again() {
    let scene = Scene::new(Ok);
    scene.permits.add_permits(2);
    let mut seen = Vec::new();
    let used = scene.guarded.with(|value| {
        seen.push(*value);
        if seen.len() == 1 {
            scene.world.restore();
        }
        *value
    });
    assert_eq!(used.await.unwrap(), 2);
    assert_eq!(seen, [1, 2]);

    scene.permits.add_permits(9);
    let error = scene
        .guarded
        .with(|_| scene.world.restore())
        .await
        .unwrap_err();
    assert!(error.is_unsettled());
}

#[tokio::test]
async fn a_change_during_the_build_builds_again() {
    let scene = Scene::new(Ok);
    {
        let mut load = pin!(scene.guarded.load());
        let first = std::future::poll_fn(|context| Poll::Ready(load.as_mut().poll(context)));
        assert!(first.await.is_pending());
        scene.world.restore();
        scene.permits.add_permits(2);
        assert_eq!(*load.await.unwrap().get().unwrap(), 2);
    }
    assert_eq!(scene.builds.load(SeqCst), 2);
}

#[tokio::test]
async fn those_who_wait_share_the_failure_and_the_next_builds_again() {
    let scene = Scene::new(|number| match number {
        1 => Err("no answer".into()),
        number => Ok(number),
    });
    let (one, other, ()) = tokio::join!(scene.guarded.load(), scene.guarded.load(), async {
        tokio::task::yield_now().await;
        scene.permits.add_permits(1);
    });
    for outcome in [one, other] {
        let error = outcome.unwrap_err();
        assert!(error.is_rebuild());
        assert!(format!("{error:?}").contains("no answer"), "{error:?}");
    }
    assert_eq!(scene.builds.load(SeqCst), 1);
    scene.permits.add_permits(1);
    assert_eq!(scene.guarded.with(|value| *value).await.unwrap(), 2);
}

#[tokio::test]
async fn a_builder_that_is_dropped_leaves_the_turn_to_the_next() {
    let scene = Scene::new(Ok);
    let waiter = {
        let mut builder = Box::pin(scene.guarded.load());
        let mut waiter = Box::pin(scene.guarded.load());
        std::future::poll_fn(|context| {
            assert!(builder.as_mut().poll(context).is_pending());
            assert!(waiter.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        waiter
    };
    scene.permits.add_permits(1);
    assert_eq!(*waiter.await.unwrap().get().unwrap(), 2);
}

#[cfg(feature = "tower")]
mod tower {
    use std::convert::Infallible;
    use std::time::Duration;

    use sysgenid::{Gate, Stale};
    use sysgenid_tokio::GateLayer;
    use tokio::time::timeout;
    use tower_layer::Layer;
    use tower_service::Service;

    use super::*;

    /// A service that counts its calls, and lets the world change in the call with this number.
    #[derive(Clone)]
    struct Counting(Restores, u32, Arc<AtomicU32>);

    impl Service<()> for Counting {
        type Response = u32;
        type Error = Infallible;
        type Future = std::future::Ready<Result<u32, Infallible>>;

        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, (): ()) -> Self::Future {
            let number = self.2.fetch_add(1, SeqCst) + 1;
            if number == self.1 {
                self.0.restore();
            }
            std::future::ready(Ok(number))
        }
    }

    fn counting(world: &Restores, changes_in: u32) -> Counting {
        Counting(world.clone(), changes_in, Arc::new(AtomicU32::new(0)))
    }

    #[tokio::test]
    async fn a_closed_gate_refuses_and_the_service_does_not_see_it() {
        let world = Restores::new();
        let gate = Arc::new(Gate::with_witness(world.clone()));
        let service = counting(&world, 0);
        let calls = Arc::clone(&service.2);
        let mut service = GateLayer::refuse(Arc::clone(&gate)).layer(service);
        assert_eq!(service.call(()).await.unwrap(), 1);
        world.restore();
        assert!(service.call(()).await.unwrap_err().is::<Stale>());
        assert_eq!(calls.load(SeqCst), 1);
        assert!(gate.open(gate.mark()));
        assert_eq!(service.call(()).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn an_answer_across_a_change_is_not_given_away() {
        let world = Restores::new();
        for layer in [GateLayer::refuse, GateLayer::wait] {
            let gate = Arc::new(Gate::with_witness(world.clone()));
            let mut service = layer(gate).layer(counting(&world, 1));
            assert!(service.call(()).await.unwrap_err().is::<Stale>());
        }
    }

    #[tokio::test]
    async fn a_request_may_wait_until_the_gate_is_open() {
        let world = Restores::new();
        let gate = Arc::new(Gate::with_witness(world.clone()));
        let mut service = GateLayer::wait(Arc::clone(&gate)).layer(counting(&world, 0));
        world.restore();
        let impatient = timeout(Duration::from_millis(20), service.call(()));
        assert!(impatient.await.is_err(), "it is closed");
        let waiting = tokio::spawn(service.call(()));
        tokio::task::yield_now().await;
        assert!(gate.open(gate.mark()));
        assert_eq!(waiting.await.unwrap().unwrap(), 1, "the other was dropped");
    }
}
