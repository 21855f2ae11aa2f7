// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a thread does with forked children, which inherit every descriptor and every mapping.

use std::thread;
use std::time::Duration;

use rustix::fd::OwnedFd;
use sysgenid_sys::abi::Dialect;
use sysgenid_sys::device;

use super::worker::Worker;
use crate::raw::ioctls;

/// A child that uses what it inherited, and ends.
pub(super) fn inherit(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let last = worker.last_seen();
    fork(worker, |_| {
        let _ = device::is_outdated(&*file);
        let _ = device::acknowledge(&*file, last);
    })
    .is_some_and(|child| reap(worker, child))
}

/// A child that is killed in its sleep, with everything open.
pub(super) fn kill_asleep(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let Some(child) = fork(worker, |dialect| sleep_on(&file, dialect)) else {
        return false;
    };
    let before = u64::from(worker.random.below(4));
    thread::sleep(Duration::from_millis(before));
    // SAFETY: The child has not been waited for, so the number is its own still.
    unsafe { libc::kill(child, libc::SIGKILL) };
    reap(worker, child)
}

/// For ever; every end of a wait is followed by another.
fn sleep_on(file: &OwnedFd, dialect: Dialect) {
    loop {
        let _ = ioctls::wait_watchers(file, dialect, 0);
    }
}

fn fork(worker: &Worker<'_>, body: impl FnOnce(Dialect)) -> Option<libc::pid_t> {
    let dialect = worker.shared.node.dialect();
    // SAFETY: The child makes system calls only, allocates nothing and takes no lock, so the
    // threads that it has lost do not matter; it never returns from here.
    let child = unsafe { libc::fork() };
    if child == 0 {
        body(dialect);
        // SAFETY: It ends the process and runs nothing of the parent's.
        unsafe { libc::_exit(0) }
    }
    if child < 0 {
        let error = std::io::Error::last_os_error();
        worker.shared.fault(format!("fork: {error}"));
        return None;
    }
    Some(child)
}

/// Waits for the end of a child, through signals.
fn reap(worker: &Worker<'_>, child: libc::pid_t) -> bool {
    loop {
        // SAFETY: No status is asked for.
        let reaped = unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        let error = std::io::Error::last_os_error();
        if reaped == child {
            return true;
        }
        if error.kind() != std::io::ErrorKind::Interrupted {
            worker.shared.fault(format!("waitpid: {error}"));
            return false;
        }
    }
}
