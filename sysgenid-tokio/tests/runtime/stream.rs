// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The changes as a stream.

use std::time::Duration;

use sysgenid_tokio::Watcher;
use tokio::time::timeout;
use tokio_stream::StreamExt;

use crate::scene::{PATIENCE, SOON, Scene, in_both, poll_once};

const MOMENT: Duration = Duration::from_millis(20);

async fn is_silent(watcher: &mut Watcher) -> bool {
    timeout(MOMENT, watcher.next()).await.is_err()
}

#[test]
fn each_generation_is_yielded_once_although_nobody_acknowledges() {
    in_both(async || {
        let scene = Scene::new();
        let mut watcher = scene.watcher().await;
        for _ in 0..20 {
            let generation = scene.trigger();
            assert_eq!(watcher.next().await.unwrap().unwrap(), generation);
            assert!(is_silent(&mut watcher).await);
        }
        assert_eq!(scene.outdated(), 1);
    });
}

/// More signals than the pipe of a broker holds.
#[test]
fn ten_thousand_changes_that_nobody_acknowledges_still_wake() {
    in_both(async || {
        let scene = Scene::new();
        let mut watcher = scene.watcher().await;
        for _ in 0..10_000 {
            let generation = scene.trigger();
            let woken = timeout(SOON, watcher.next()).await;
            assert_eq!(woken.expect("lost").unwrap().unwrap(), generation);
        }
    });
}

#[test]
fn an_acknowledgement_ends_nothing() {
    in_both(async || {
        let scene = Scene::new();
        let mut watcher = scene.watcher().await;
        for round in 0..20 {
            let generation = scene.trigger();
            assert_eq!(watcher.next().await.unwrap().unwrap(), generation);
            if round % 2 == 0 {
                watcher.acknowledge(generation).unwrap();
            }
            if round % 3 == 0 {
                assert!(is_silent(&mut watcher).await);
            }
        }
    });
}

#[test]
fn what_was_yielded_is_told_by_the_others() {
    in_both(async || {
        let scene = Scene::new();
        let mut watcher = scene.watcher().await;
        let generation = scene.trigger();
        assert_eq!(watcher.next().await.unwrap().unwrap(), generation);
        // The stream waits for the next change now; the others are told of this one.
        assert!(is_silent(&mut watcher).await);
        let told = timeout(SOON, watcher.changed()).await;
        assert_eq!(told.expect("lost").unwrap(), generation);
        let polled = std::future::poll_fn(|cx| watcher.poll_changed(cx));
        assert_eq!(timeout(SOON, polled).await.unwrap().unwrap(), generation);

        let watcher = sysgenid::Watcher::from(watcher);
        assert_eq!(watcher.try_changed().unwrap(), Some(generation));
        let watcher = Watcher::new(watcher).unwrap();
        let told = timeout(SOON, watcher.changed()).await;
        assert_eq!(told.expect("lost").unwrap(), generation);
        watcher.acknowledge(generation).unwrap();
        assert!(timeout(MOMENT, watcher.changed()).await.is_err());
        let generation = scene.trigger();
        assert_eq!(watcher.changed().await.unwrap(), generation);
    });
}

#[test]
fn a_dropped_next_loses_nothing() {
    in_both(async || {
        let scene = Scene::new();
        let mut watcher = scene.watcher().await;
        for _ in 0..200 {
            assert!(poll_once(std::pin::pin!(watcher.next())).is_pending());
            let generation = scene.trigger();
            // Polled before, after, or while the runtime learns of it.
            for _ in 0..3 {
                tokio::task::yield_now().await;
                if let std::task::Poll::Ready(item) = poll_once(std::pin::pin!(watcher.next())) {
                    assert_eq!(item.unwrap().unwrap(), generation);
                    assert!(is_silent_at_once(&mut watcher));
                    watcher.acknowledge(generation).unwrap();
                    break;
                }
            }
            if watcher.try_changed().unwrap().is_some() {
                let item = timeout(SOON, watcher.next()).await.expect("lost");
                assert_eq!(item.unwrap().unwrap(), generation);
                watcher.acknowledge(generation).unwrap();
            }
        }
    });
}

fn is_silent_at_once(watcher: &mut Watcher) -> bool {
    poll_once(std::pin::pin!(watcher.next())).is_pending()
}

#[test]
fn an_error_ends_it_until_it_has_reconnected() {
    in_both(async || {
        let mut scene = Scene::new();
        let mut watcher = scene.watcher().await;
        let before = scene.trigger();
        assert_eq!(watcher.next().await.unwrap().unwrap(), before);
        scene.end_broker();
        let error = timeout(SOON, watcher.next()).await.unwrap();
        assert!(error.unwrap().unwrap_err().is_lost());
        assert!(watcher.next().await.is_none());
        assert!(
            watcher
                .reconnect(Duration::ZERO)
                .await
                .unwrap_err()
                .is_lost()
        );
        assert!(watcher.next().await.is_none());

        scene.start_broker();
        watcher.reconnect(PATIENCE).await.unwrap();
        // It was told of that one, although it has not acknowledged it.
        assert!(is_silent(&mut watcher).await);
        assert_eq!(watcher.changed().await.unwrap(), before);
        let after = scene.trigger();
        assert_eq!(watcher.next().await.unwrap().unwrap(), after);
    });
}
