// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a process knows of itself: `sysgenid::uniqueness` across every way of forking, where memory
//! can be emptied in a child and where it cannot.

mod clones;
mod forks;
mod lost;
mod pages;
mod sandbox;
mod shared;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sysgenid::SOURCE_VARIABLE;
use sysgenid_sys::page::CounterPageMut;

pub(crate) use self::clones::bare_clone;
pub use self::clones::can_make_pid_namespaces;
pub use self::sandbox::Sandbox;
use crate::suite::Case;

/// This process, which stands on a page file.
#[derive(Clone, Debug)]
pub struct Subject {
    page: PathBuf,
}

impl Subject {
    /// Makes this process stand on a page file in `folder`, in a sandbox.
    ///
    /// # Errors
    ///
    /// If the page cannot be written, or the sandbox not be entered.
    ///
    /// # Safety
    ///
    /// The process has no other thread yet, and has not looked at its uniqueness.
    pub unsafe fn new(folder: &Path, sandbox: Sandbox) -> io::Result<Self> {
        let page = folder.join("page");
        fs::write(&page, [0; 4096])?;
        // SAFETY: Nobody else can be looking at the environment, as the caller has promised.
        unsafe { std::env::set_var(SOURCE_VARIABLE, &page) };
        sandbox.enter()?;
        Ok(Self { page })
    }

    /// As a restore.
    fn restore(&self) {
        let file = fs::File::options().read(true).write(true).open(&self.page);
        let page = CounterPageMut::map(file.expect("the page is there")).expect("it can be mapped");
        page.store(page.load().wrapping_add(1));
    }
}

/// The cases that need a pid namespace, which not every container lets its processes make.
pub const IN_PID_NAMESPACES: [&str; 2] = [
    "uniqueness_changes_in_a_pid_namespace",
    "uniqueness_changes_in_a_child_of_the_same_id",
];

/// All cases for a sandbox: first those that hold everywhere.
pub fn cases(sandbox: Sandbox) -> impl Iterator<Item = &'static Case<Subject>> {
    let own = match sandbox {
        Sandbox::None => [shared::WITH_A_PAGE, lost::CASES],
        Sandbox::Refuses | Sandbox::Lies => [shared::BY_PROCESS_ID, &[]],
    };
    [
        forks::CASES,
        clones::CASES,
        shared::EVERYWHERE,
        own[0],
        own[1],
        pages::CASES,
    ]
    .into_iter()
    .flatten()
}
