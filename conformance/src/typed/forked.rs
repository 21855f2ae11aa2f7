// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A watcher in a forked child: it is the parent's, and the child is told so.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sysgenid::{Error, Generation, Watcher};

use super::Subject;
use super::subject::{SOON, catch_up, is_outdated};
use crate::background::PATIENCE;
use crate::cases;
use crate::forked::Forked;

cases! { Subject;
    watcher_in_a_forked_child_is_forked_in_every_call,
    orchestrator_in_a_forked_child_is_forked_in_every_call,
    forked_child_that_acknowledges_leaves_the_parent_outdated,
    copy_that_a_forked_child_drops_leaves_the_parent_whole,
    reopened_watcher_of_an_up_to_date_parent_is_up_to_date,
    reopened_watcher_of_an_outdated_parent_is_outdated,
    reopened_watcher_owes_what_the_parent_has_acknowledged_since_the_fork,
    reopened_watcher_is_one_of_its_own,
    reopened_watcher_is_tracked_as_the_parents,
    reopened_watcher_is_forked_again_in_a_child_of_the_child,
    reopened_orchestrator_settles,
    reopening_in_the_same_process_does_nothing,
}

fn expect_forked<T>(call: &str, result: Result<T, Error>) {
    match result {
        Ok(_) => panic!("{call} went through"),
        Err(error) => {
            assert!(error.is_forked(), "{call}: {error}");
            assert!(error.to_string().contains("reopen"), "{call}: {error}");
        }
    }
}

fn nothing(_: Generation) -> io::Result<()> {
    Ok(())
}

/// Outdated, so that each call would have something to do.
fn watcher_in_a_forked_child_is_forked_in_every_call(subject: &Subject) {
    let mut watcher = subject.straggler();
    let generation = watcher.generation();
    let child = Forked::start(|_| {
        expect_forked("try_changed", watcher.try_changed());
        expect_forked("wait", watcher.wait(SOON));
        expect_forked("acknowledge", watcher.acknowledge(generation));
        expect_forked("handle", watcher.handle(SOON, nothing));
        expect_forked("set_tracking", watcher.set_tracking(false));
        expect_forked("probe", watcher.probe());
        expect_forked("reconnect", watcher.reconnect(PATIENCE));
        assert_eq!(watcher.generation(), generation);
    });
    child.finish();
    assert!(is_outdated(&watcher));
    subject.expect_unsettled("the parent has not acknowledged");
    catch_up(&watcher);
}

fn orchestrator_in_a_forked_child_is_forked_in_every_call(subject: &Subject) {
    let orchestrator = subject.orchestrator();
    orchestrator.trigger().expect("its owner may trigger");
    let generation = orchestrator.watcher().generation();
    let child = Forked::start(|_| {
        expect_forked("trigger", orchestrator.trigger());
        expect_forked("acknowledge", orchestrator.acknowledge());
        expect_forked("wait_for_watchers", orchestrator.wait_for_watchers(SOON));
        expect_forked("settle", orchestrator.settle(SOON, nothing));
        expect_forked("stragglers", orchestrator.stragglers());
    });
    child.finish();
    assert_eq!(orchestrator.watcher().generation(), generation);
    assert!(is_outdated(orchestrator.watcher()));
}

/// The fault that this is about: the child would silence its parent.
fn forked_child_that_acknowledges_leaves_the_parent_outdated(subject: &Subject) {
    let watcher = subject.watcher();
    let child = Forked::start(|steps| {
        steps.step();
        expect_forked("acknowledge", watcher.acknowledge(watcher.generation()));
    });
    child.arrives();
    subject.change();
    child.go_on();
    child.finish();
    assert!(is_readable(&watcher), "the parent has not handled it");
    catch_up(&watcher);
    subject.expect_settled("the parent has acknowledged");
}

/// The connection and the epoll instance are shared: closing a copy must close nothing.
fn copy_that_a_forked_child_drops_leaves_the_parent_whole(subject: &Subject) {
    let mut watcher = Some(subject.watcher());
    let child = Forked::start(|steps| {
        drop(watcher.take());
        steps.step();
    });
    child.arrives();
    let watcher = watcher.expect("the parent has it");
    for round in ["while the child lives", "when it has ended"] {
        subject.change();
        assert!(is_readable(&watcher), "{round}");
        catch_up(&watcher);
        assert!(!is_outdated(&watcher), "{round}");
        subject.expect_settled(round);
        if round.starts_with("while") {
            child.go_on();
        }
    }
    child.finish();
}

fn reopened_watcher_of_an_up_to_date_parent_is_up_to_date(subject: &Subject) {
    let mut watcher = subject.straggler();
    catch_up(&watcher);
    let child = Forked::start(|steps| {
        watcher.reopen().expect("it can be reopened");
        assert!(!is_outdated(&watcher));
        assert!(!is_readable_now(&watcher));
        steps.step();
        assert!(is_readable(&watcher), "it is woken");
        catch_up(&watcher);
        assert!(!is_readable_now(&watcher));
    });
    child.arrives();
    subject.change();
    child.go_on();
    child.finish();
}

fn reopened_watcher_of_an_outdated_parent_is_outdated(subject: &Subject) {
    let mut watcher = subject.straggler();
    let child = Forked::start(|steps| {
        watcher.reopen().expect("it can be reopened");
        expect_owed(&watcher);
        steps.step();
        assert!(is_readable(&watcher), "it is woken by the next one, too");
        catch_up(&watcher);
    });
    child.arrives();
    assert!(is_outdated(&watcher), "the parent's is as it was");
    catch_up(&watcher);
    subject.change();
    child.go_on();
    child.finish();
}

/// The parent's acknowledgement says nothing of what the child has in memory.
fn reopened_watcher_owes_what_the_parent_has_acknowledged_since_the_fork(subject: &Subject) {
    let mut watcher = subject.watcher();
    let child = Forked::start(|steps| {
        steps.step();
        watcher.reopen().expect("it can be reopened");
        expect_owed(&watcher);
    });
    child.arrives();
    subject.change();
    catch_up(&watcher);
    child.go_on();
    child.finish();
    assert!(!is_outdated(&watcher));
}

/// It is outdated in all respects, and then it has handled the change.
fn expect_owed(watcher: &Watcher) {
    assert!(is_outdated(watcher));
    assert!(is_readable(watcher));
    let current = watcher.generation();
    assert_eq!(watcher.wait(SOON).expect("it is outdated"), current);
    let mut handled = None;
    let acknowledged = watcher.handle(PATIENCE, |generation| {
        handled = Some(generation);
        Ok::<_, io::Error>(())
    });
    assert_eq!(acknowledged.expect("it is handled"), current);
    assert_eq!(handled, Some(current));
    assert!(!is_outdated(watcher));
    assert!(!is_readable_now(watcher));
}

/// Each is outdated until it has acknowledged itself.
fn reopened_watcher_is_one_of_its_own(subject: &Subject) {
    let mut watcher = subject.watcher();
    let child = Forked::start(|steps| {
        watcher.reopen().expect("it can be reopened");
        steps.step();
        catch_up(&watcher);
        steps.step();
        assert!(is_outdated(&watcher), "the parent has acknowledged");
        catch_up(&watcher);
        steps.step();
    });
    child.arrives();
    subject.change();
    child.go_on();
    child.arrives();
    assert!(is_outdated(&watcher), "the child has acknowledged");
    subject.expect_unsettled("the parent has not");
    catch_up(&watcher);
    subject.expect_settled("both have");
    subject.change();
    catch_up(&watcher);
    subject.expect_unsettled("the child has not");
    child.go_on();
    child.arrives();
    subject.expect_settled("both have again");
}

fn reopened_watcher_is_tracked_as_the_parents(subject: &Subject) {
    let mut watcher = subject.watcher();
    let mut bystander = subject.bystander();
    let is_bystander_tracked = subject.dialect() == sysgenid::Dialect::V5;
    let child = Forked::start(|steps| {
        watcher.reopen().expect("it can be reopened");
        bystander.reopen().expect("it can be reopened");
        steps.step();
        catch_up(&watcher);
        steps.step();
    });
    child.arrives();
    subject.change();
    catch_up(&watcher);
    if is_bystander_tracked {
        catch_up(&bystander);
    }
    subject.expect_unsettled("the child's is tracked");
    child.go_on();
    child.arrives();
    if is_bystander_tracked {
        subject.expect_unsettled("so is its other one");
    } else {
        subject.expect_settled("its other one is not");
    }
}

fn reopened_watcher_is_forked_again_in_a_child_of_the_child(subject: &Subject) {
    let mut watcher = subject.watcher();
    let child = Forked::start(|_| {
        watcher.reopen().expect("it can be reopened");
        let grandchild = Forked::start(|_| {
            expect_forked("try_changed", watcher.try_changed());
            watcher.reopen().expect("it can be reopened again");
            assert!(!is_outdated(&watcher));
        });
        grandchild.finish();
        assert!(!is_outdated(&watcher));
    });
    child.finish();
}

fn reopened_orchestrator_settles(subject: &Subject) {
    let mut orchestrator = subject.orchestrator();
    let child = Forked::start(|_| {
        orchestrator
            .watcher_mut()
            .reopen()
            .expect("it can be reopened");
        let generation = orchestrator.trigger().expect("its owner may trigger");
        if subject.dialect() == sysgenid::Dialect::V5 {
            // The parent's is waited for as well there.
            return;
        }
        let settled = orchestrator.settle(PATIENCE, nothing).expect("it settles");
        assert_eq!(settled.generation, generation);
    });
    child.finish();
    assert!(is_outdated(orchestrator.watcher()), "the parent's own is");
}

fn reopening_in_the_same_process_does_nothing(subject: &Subject) {
    let mut watcher = subject.straggler();
    watcher.reopen().expect("there is nothing to do");
    assert!(is_outdated(&watcher));
    catch_up(&watcher);
    watcher.reopen().expect("there is nothing to do");
    assert!(!is_outdated(&watcher));
}

fn is_readable(watcher: &Watcher) -> bool {
    is_readable_in(watcher, 20)
}

fn is_readable_now(watcher: &Watcher) -> bool {
    is_readable_in(watcher, 0)
}

fn is_readable_in(watcher: &Watcher, seconds: i64) -> bool {
    let timeout = Timespec {
        tv_sec: seconds,
        tv_nsec: 0,
    };
    let mut fds = [PollFd::new(watcher, PollFlags::IN)];
    poll(&mut fds, Some(&timeout)).expect("poll") > 0
}
