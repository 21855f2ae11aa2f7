// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A cached secret: built in the generation that is current, or not handed out.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use sysgenid::{BuildError, Generation, Guarded, Probe};

use super::Subject;
use crate::cases;

cases! { Subject;
    guarded_value_is_built_once_in_a_generation,
    guarded_value_is_built_again_after_a_change,
    guarded_result_is_not_of_a_generation_that_changed_meanwhile,
    guarded_value_is_not_of_a_generation_that_changed_during_the_build,
    guarded_use_gives_up_when_the_generation_keeps_changing,
    guarded_build_gives_up_when_the_generation_keeps_changing,
    failed_rebuild_leaves_no_value,
    panicking_rebuild_leaves_no_value,
}

type Build = Box<dyn FnMut(Generation) -> Result<Generation, BuildError>>;

/// Builds what it is told to, and counts.
struct Secret {
    guarded: Guarded<Generation, Probe, Build>,
    builds: Arc<AtomicU32>,
}

impl Secret {
    /// The value is the generation that it was built in. `disturb` is called in each build, with
    /// the number of the build.
    fn new(
        subject: &Subject,
        mut disturb: impl FnMut(u32) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let builds = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&builds);
        let build: Build = Box::new(move |generation| {
            disturb(counter.fetch_add(1, Relaxed) + 1)?;
            Ok(generation)
        });
        let guarded = Guarded::unwiped_with_witness(subject.probe(), build);
        Self { guarded, builds }
    }

    fn builds(&self) -> u32 {
        self.builds.load(Relaxed)
    }
}

/// When it is first used, and never again without a change.
fn guarded_value_is_built_once_in_a_generation(subject: &Subject) {
    let mut secret = Secret::new(subject, |_| Ok(()));
    assert_eq!(secret.builds(), 0);
    let generation = subject.probe().generation();
    for _ in 0..3 {
        assert_eq!(*secret.guarded.get().unwrap(), generation);
        assert_eq!(secret.guarded.with(|value| *value).unwrap(), generation);
    }
    assert_eq!(secret.builds(), 1);
}

/// Before the next use, however many changes there were.
fn guarded_value_is_built_again_after_a_change(subject: &Subject) {
    let mut secret = Secret::new(subject, |_| Ok(()));
    secret.guarded.get().unwrap();
    subject.change();
    let generation = subject.change();
    assert_eq!(*secret.guarded.get().unwrap(), generation);
    assert_eq!(secret.builds(), 2);
}

/// A result that was computed across a change is computed again, from a new value.
fn guarded_result_is_not_of_a_generation_that_changed_meanwhile(subject: &Subject) {
    let mut secret = Secret::new(subject, |_| Ok(()));
    let mut used = Vec::new();
    let result = secret.guarded.with(|value| {
        used.push(*value);
        if used.len() < 3 {
            subject.change();
        }
        *value
    });
    let generation = subject.probe().generation();
    assert_eq!(result.unwrap(), generation);
    assert_eq!(used.len(), 3);
    assert_eq!(secret.builds(), 3);
}

/// A value whose entropy may be of before the change is thrown away.
fn guarded_value_is_not_of_a_generation_that_changed_during_the_build(subject: &Subject) {
    let changing = subject.clone();
    let mut secret = Secret::new(subject, move |build| {
        if build < 3 {
            changing.change();
        }
        Ok(())
    });
    let value = *secret.guarded.get().unwrap();
    assert_eq!(value, subject.probe().generation());
    assert_eq!(secret.builds(), 3);
}

/// After a few attempts, with an error of its own; and it works once the changes end.
fn guarded_use_gives_up_when_the_generation_keeps_changing(subject: &Subject) {
    let mut secret = Secret::new(subject, |_| Ok(()));
    let mut uses = 0;
    let result = secret.guarded.with(|_| {
        uses += 1;
        subject.change();
    });
    let error = result.unwrap_err();
    assert!(error.is_unsettled(), "{error}");
    assert!((1..=100).contains(&uses), "{uses} uses");
    let generation = subject.probe().generation();
    assert_eq!(secret.guarded.with(|value| *value).unwrap(), generation);
}

/// The same while building.
fn guarded_build_gives_up_when_the_generation_keeps_changing(subject: &Subject) {
    let changing = subject.clone();
    let mut secret = Secret::new(subject, move |build| {
        if build < 100 {
            changing.change();
        }
        Ok(())
    });
    let error = secret.guarded.get().unwrap_err();
    assert!(error.is_unsettled(), "{error}");
    assert!(
        (1..=50).contains(&secret.builds()),
        "{} builds",
        secret.builds()
    );
}

/// The old one must not be had instead.
fn failed_rebuild_leaves_no_value(subject: &Subject) {
    let mut secret = Secret::new(subject, |build| match build {
        2 | 3 => Err(io::Error::other("no entropy")),
        _ => Ok(()),
    });
    secret.guarded.get().unwrap();
    let generation = subject.change();
    for _ in 0..2 {
        let error = secret
            .guarded
            .with(|value| panic!("it got {value}"))
            .unwrap_err();
        assert!(error.is_rebuild(), "{error}");
    }
    assert_eq!(*secret.guarded.get().unwrap(), generation);
    assert_eq!(secret.builds(), 4);
}

/// Nor after a panic.
fn panicking_rebuild_leaves_no_value(subject: &Subject) {
    let mut secret = Secret::new(subject, |build| match build {
        2 => panic!("on purpose"),
        _ => Ok(()),
    });
    secret.guarded.get().unwrap();
    let generation = subject.change();
    let used = catch_unwind(AssertUnwindSafe(|| secret.guarded.with(|value| *value)));
    assert!(used.is_err(), "the panic is the caller's");
    assert_eq!(secret.guarded.with(|value| *value).unwrap(), generation);
    assert_eq!(secret.builds(), 3);
}
