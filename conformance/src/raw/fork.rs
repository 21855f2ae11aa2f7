// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `fork`: the child has the parent's watcher and the parent's mapping.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use sysgenid_sys::device;

use super::Node;
use super::mapping::{Mapping, Request};
use super::node::OpenFile;
use crate::cases;

cases! { Node;
    acknowledgement_of_the_parent_silences_the_child,
    acknowledgement_of_the_child_silences_the_parent,
    inherited_mapping_shows_the_generation,
    inherited_mapping_made_writable_is_eacces,
    inherited_watcher_keeps_a_wait_until_the_child_has_gone,
    inherited_mapping_keeps_a_wait_until_the_child_has_gone,
}

/// The state is the open file's, of which there is one.
fn acknowledgement_of_the_parent_silences_the_child(node: &Node) {
    let (watcher, page) = watch_and_map(node, MapFlags::SHARED);
    let child = Fork::new(&watcher, &page);
    node.bump();
    assert_eq!(child.ask(Question::IsOutdated), 1);
    watcher.catch_up();
    assert_eq!(child.ask(Question::IsOutdated), 0);
}

/// And the other way round: a parent that has not handled the change is told of it no more.
fn acknowledgement_of_the_child_silences_the_parent(node: &Node) {
    let (watcher, page) = watch_and_map(node, MapFlags::SHARED);
    let child = Fork::new(&watcher, &page);
    node.bump();
    assert!(watcher.is_outdated());
    assert_eq!(child.ask(Question::CatchUp), 0);
    assert!(!watcher.is_outdated());
}

/// A private mapping is no copy of its own either, because nobody can write it.
fn inherited_mapping_shows_the_generation(node: &Node) {
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let (watcher, page) = watch_and_map(node, flags);
        let child = Fork::new(&watcher, &page);
        for _ in 0..3 {
            let generation = node.bump();
            assert_eq!(page.load(), generation, "{flags:?}");
            assert_eq!(child.ask(Question::Generation), generation, "{flags:?}");
        }
    }
}

/// What was refused to the parent is refused to the child.
fn inherited_mapping_made_writable_is_eacces(node: &Node) {
    for flags in [MapFlags::SHARED, MapFlags::PRIVATE] {
        let (watcher, page) = watch_and_map(node, flags);
        let child = Fork::new(&watcher, &page);
        let refused = Errno::ACCESS.raw_os_error().cast_unsigned();
        assert_eq!(child.ask(Question::MakeWritable), refused, "{flags:?}");
    }
}

/// The child's descriptor is a reference to the open file like the parent's.
fn inherited_watcher_keeps_a_wait_until_the_child_has_gone(node: &Node) {
    let (watcher, page) = watch_and_map(node, MapFlags::SHARED);
    watcher.ensure_tracked();
    let child = Fork::new(&watcher, &page);
    drop((watcher, page));
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "the child has it");
    assert_eq!(child.ask(Question::CatchUp), 0);
    assert_eq!(node.open().wait(1), Ok(()), "the child has acknowledged");
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "the child has it");
    drop(child);
    assert_eq!(node.open().wait(1), Ok(()), "the child has gone");
}

/// So is its mapping.
fn inherited_mapping_keeps_a_wait_until_the_child_has_gone(node: &Node) {
    let (watcher, page) = watch_and_map(node, MapFlags::SHARED);
    watcher.ensure_tracked();
    let child = Fork::new(&watcher, &page);
    assert_eq!(child.ask(Question::Close), 0);
    drop((watcher, page));
    node.bump();
    assert_eq!(node.open().wait(1), Err(Errno::TIME), "the child maps it");
    drop(child);
    assert_eq!(node.open().wait(1), Ok(()), "the child has gone");
}

fn watch_and_map(node: &Node, flags: MapFlags) -> (OpenFile, Mapping) {
    let request = Request {
        flags,
        ..Request::default()
    };
    let watcher = node.open();
    let page = Mapping::new(&watcher, request).expect("it can be mapped");
    (watcher, page)
}

/// What a forked child is asked. The answers are numbers; 0 is success of what is done.
#[derive(Clone, Copy)]
enum Question {
    IsOutdated,
    CatchUp,
    Generation,
    MakeWritable,
    Close,
}

impl Question {
    const ALL: [Self; 5] = [
        Self::IsOutdated,
        Self::CatchUp,
        Self::Generation,
        Self::MakeWritable,
        Self::Close,
    ];
}

/// A child that was forked, and did not replace its program: it has the parent's descriptors and
/// mappings. Dropping it kills it.
struct Fork {
    pid: libc::pid_t,
    questions: OwnedFd,
    answers: OwnedFd,
}

impl Fork {
    fn new(watcher: &OpenFile, page: &Mapping) -> Self {
        let (hear, questions) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe can be made");
        let (answers, say) = pipe_with(PipeFlags::CLOEXEC).expect("a pipe can be made");
        // SAFETY: The child makes system calls only, allocates nothing and takes no lock, so the
        // threads that it has lost do not matter; it never returns from here.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            drop((questions, answers));
            serve(watcher, page, &hear, &say);
        }
        Self {
            pid,
            questions,
            answers,
        }
    }

    fn ask(&self, question: Question) -> u32 {
        let mut answer = [0; 4];
        rustix::io::write(&self.questions, &[question as u8]).expect("the child can be asked");
        let length = rustix::io::read(&self.answers, &mut answer).expect("the child answers");
        assert_eq!(length, answer.len(), "the child has ended");
        u32::from_ne_bytes(answer)
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        // SAFETY: The child has not been waited for, so the number is its own still.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), 0);
        }
    }
}

/// The child: system calls and nothing else, until the parent has gone.
fn serve(watcher: &OpenFile, page: &Mapping, hear: &OwnedFd, say: &OwnedFd) -> ! {
    let mut question = [0];
    while let Ok(1) = rustix::io::read(hear, &mut question) {
        let question = Question::ALL.get(usize::from(question[0]));
        let answer = match question {
            Some(Question::IsOutdated) => device::is_outdated(watcher).map(u32::from),
            Some(Question::CatchUp) => device::read_generation(watcher)
                .and_then(|generation| device::acknowledge(watcher, generation))
                .map(|()| 0),
            Some(Question::Generation) => Ok(page.load()),
            Some(Question::MakeWritable) => page
                .protect(MprotectFlags::READ | MprotectFlags::WRITE)
                .map(|()| 0),
            Some(Question::Close) => {
                // SAFETY: The descriptor is this process's copy. Nothing drops it, because this
                // function does not return.
                unsafe { rustix::io::close(watcher.as_fd().as_raw_fd()) };
                Ok(0)
            }
            None => Err(Errno::INVAL),
        };
        let answer = answer.unwrap_or_else(|errno| errno.raw_os_error().cast_unsigned());
        if rustix::io::write(say, &answer.to_ne_bytes()).is_err() {
            break;
        }
    }
    // SAFETY: It ends the process and runs nothing of the parent's.
    unsafe { libc::_exit(0) }
}
