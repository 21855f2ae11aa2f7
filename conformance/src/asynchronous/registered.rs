// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Into a runtime, out of it, and into another one.

use sysgenid_tokio::Watcher;
use tokio::io::unix::AsyncFd;

use super::runtime::{
    current_thread, expect_pending, handle_change, in_each_runtime, multi_thread, open, register,
    soon,
};
use crate::background::PATIENCE;
use crate::cases;
use crate::typed::Subject;

cases! { Subject;
    watcher_is_taken_out_and_registered_again,
    watcher_taken_out_while_outdated_is_outdated_still,
    watcher_goes_on_in_another_runtime,
    async_fd_of_a_watcher_is_readable_while_outdated,
    without_a_runtime_the_watcher_comes_back,
}

fn watcher_is_taken_out_and_registered_again(subject: &Subject) {
    in_each_runtime(async || {
        let mut watcher = open(subject).await;
        for round in 0..5 {
            watcher = register(sysgenid::Watcher::from(watcher));
            expect_pending(watcher.changed(), "it has missed nothing").await;
            subject.change();
            handle_change(&watcher, &format!("round {round}")).await;
        }
    });
}

/// Whether the runtime has told of it or not.
fn watcher_taken_out_while_outdated_is_outdated_still(subject: &Subject) {
    in_each_runtime(async || {
        for is_told in [false, true] {
            let watcher = open(subject).await;
            let generation = subject.change();
            if is_told {
                soon(watcher.changed(), "it is outdated").await.unwrap();
            }
            let watcher = sysgenid::Watcher::from(watcher);
            assert_eq!(watcher.try_changed().unwrap(), Some(generation));
            let watcher = register(watcher);
            assert_eq!(handle_change(&watcher, "it is outdated").await, generation);
            let watcher = sysgenid::Watcher::from(watcher);
            subject.change();
            assert!(watcher.wait(PATIENCE).is_ok(), "it waits without a runtime");
        }
    });
}

fn watcher_goes_on_in_another_runtime(subject: &Subject) {
    let mut watcher = subject.watcher();
    for runtime in [current_thread(), multi_thread(), current_thread()] {
        watcher = runtime.block_on(async {
            let watcher = register(watcher);
            expect_pending(watcher.changed(), "it has missed nothing").await;
            subject.change();
            handle_change(&watcher, "the generation changed").await;
            watcher.into()
        });
    }
    subject.change();
    assert!(watcher.wait(PATIENCE).is_ok(), "the runtimes are gone");
}

/// For those who take what tokio gives, and look for themselves.
fn async_fd_of_a_watcher_is_readable_while_outdated(subject: &Subject) {
    in_each_runtime(async || {
        #[expect(
            deprecated,
            reason = "a watcher keeps the descriptor that it gives away"
        )]
        let registered = AsyncFd::new(subject.watcher()).unwrap();
        for _ in 0..3 {
            let generation = subject.change();
            let mut ready = soon(registered.readable(), "it is outdated").await.unwrap();
            assert_eq!(ready.get_inner().try_changed().unwrap(), Some(generation));
            ready.get_inner().acknowledge(generation).unwrap();
            assert_eq!(ready.get_inner().try_changed().unwrap(), None);
            ready.clear_ready();
        }
        let watcher = Watcher::new(registered.into_inner()).unwrap();
        subject.change();
        handle_change(&watcher, "the generation changed").await;
    });
}

/// With what it has not acknowledged, and an error that says so.
fn without_a_runtime_the_watcher_comes_back(subject: &Subject) {
    let watcher = subject.watcher();
    let generation = subject.change();
    let (watcher, error) = Watcher::new(watcher).unwrap_err().into_parts();
    assert!(error.is_runtime(), "{error}");
    assert_eq!(watcher.try_changed().unwrap(), Some(generation));
}
