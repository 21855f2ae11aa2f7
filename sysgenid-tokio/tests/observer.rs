// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What an observer does without a clock. With one, the conformance suite of clocks tests it.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use sysgenid::{Error, Source};
use sysgenid_tokio::{NotRegistered, Observer};

#[tokio::test]
async fn other_sources_are_unsupported_and_name_what_to_use() {
    let folder = tempfile::tempdir().unwrap();
    let _broker = sysgenid_broker::spawn(folder.path()).unwrap();
    let page = folder.path().join("page");
    for (path, hint) in [(folder.path(), "`Watcher`"), (&page, "PolledProbe")] {
        let source = Source::at(path).unwrap();
        for error in [
            Observer::open_at(path).await.unwrap_err(),
            Observer::open_on(source).await.unwrap_err(),
        ] {
            assert!(error.is_unsupported(), "{error}");
            assert!(error.to_string().contains(hint), "{error}");
            assert_eq!(error.path(), Some(path));
        }
    }
    let error = Observer::open_at("/nonexistent/vmclock0")
        .await
        .unwrap_err();
    assert!(error.is_absent(), "{error}");
}

#[test]
fn without_a_runtime_is_an_error() {
    let mut opening = pin!(Observer::open_at("/dev/vmclock0"));
    let Poll::Ready(opened) = opening
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    else {
        panic!("there is nothing to wait for");
    };
    let error = opened.unwrap_err();
    assert!(error.is_runtime(), "{error}");
}

#[test]
fn everything_can_be_sent_and_moved() {
    fn check<T: Send + Sync + Unpin>() {}
    fn check_future<T: Future + Send + Sync>(_: T) {}
    check::<Observer>();
    check::<NotRegistered<sysgenid::Observer>>();
    let _ = |observer: &'static mut Observer, source: Source| {
        check_future(observer.changed());
        check_future(Observer::open());
        check_future(Observer::open_at("/dev/vmclock0"));
        check_future(Observer::open_on(source));
    };
    let _: fn(NotRegistered<sysgenid::Observer>) -> Error = Error::from;
}
