// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables of named cases, and how they are run.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// How long a case of several calls may take before it counts as hung: more than any patience
/// within it.
pub const LIMIT: Duration = Duration::from_secs(90);

/// One behaviour of a subject `S`. The function returns if it holds, and panics if it does not.
#[derive(Debug)]
pub struct Case<S: 'static> {
    /// Says the behaviour, in the words of a function's name.
    pub name: &'static str,
    /// Tries it.
    pub run: fn(&S),
}

/// The table `CASES` of a module, with each case named as its function.
///
/// A case that is left out of the table is an unused function, and a table that is left out of its
/// suite an unused constant: the compiler warns of both, and warnings are errors in CI.
#[macro_export]
macro_rules! cases {
    ($subject:ty; $($name:ident),+ $(,)?) => {
        pub(super) const CASES: &[$crate::suite::Case<$subject>] = &[
            $($crate::suite::Case { name: stringify!($name), run: $name }),+
        ];
    };
}

/// What a run found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Cases that ran.
    pub cases: usize,
    /// Those that failed.
    pub failed: usize,
}

impl Summary {
    /// Whether anything ran, and nothing failed.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.cases > 0 && self.failed == 0
    }
}

/// Runs each case on a thread of its own and prints TAP.
///
/// A case that panics has failed, and so has one that takes longer than `limit`; the suite goes on
/// in either case.
///
/// # Errors
///
/// If `out` takes no more.
pub fn run<S: Clone + Send + 'static>(
    out: &mut dyn Write,
    subject: &S,
    cases: &[&Case<S>],
    limit: Duration,
) -> io::Result<Summary> {
    writeln!(out, "TAP version 14\n1..{}", cases.len())?;
    let mut summary = Summary::default();
    for case in cases {
        summary.cases += 1;
        let subject = subject.clone();
        let run = case.run;
        match attempt(limit, move || run(&subject)) {
            Ok(()) => writeln!(out, "ok {} - {}", summary.cases, case.name)?,
            Err(reason) => {
                summary.failed += 1;
                writeln!(out, "not ok {} - {}", summary.cases, case.name)?;
                for line in reason.lines() {
                    writeln!(out, "# {line}")?;
                }
            }
        }
        out.flush()?;
    }
    Ok(summary)
}

/// Runs `work` on a thread of its own; the error says why it panicked, or that it hung.
fn attempt(limit: Duration, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    keep_panic_messages();
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(work)).map_err(|payload| reason(&*payload));
        let _ = sender.send(result);
    });
    if let Err(error) = thread {
        return Err(format!("no thread for it: {error}"));
    }
    match receiver.recv_timeout(limit) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => Err(format!(
            "hung for {limit:?}; what it holds open may disturb the cases after it"
        )),
        Err(RecvTimeoutError::Disconnected) => Err("ended without a result".into()),
    }
}

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps the messages of panics, with their places, instead of printing them between the lines of
/// the report.
fn keep_panic_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let message = info.to_string();
            PANIC.with(|last| *last.borrow_mut() = Some(message));
            // The hook is the process's: this crate's own tests want theirs.
            if cfg!(test) {
                print(info);
            }
        }));
    });
}

/// Why this thread panicked. A panic that was handed on from another thread did not go through the
/// hook of this one and brings only its payload.
pub(crate) fn reason(payload: &(dyn Any + Send)) -> String {
    PANIC
        .with(|last| last.borrow_mut().take())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .or_else(|| {
            payload
                .downcast_ref::<&str>()
                .map(|&message| message.to_owned())
        })
        .unwrap_or_else(|| "panicked without a message".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSES: Case<()> = Case {
        name: "passes",
        run: |()| {},
    };
    const FAILS: Case<()> = Case {
        name: "fails",
        run: |()| panic!("first\nsecond"),
    };

    fn report(cases: &[&Case<()>]) -> (String, Summary) {
        let mut out = Vec::new();
        let summary = run(&mut out, &(), cases, LIMIT).unwrap();
        (String::from_utf8(out).unwrap(), summary)
    }

    #[test]
    fn a_panic_is_a_failed_case_and_the_suite_goes_on() {
        let (text, summary) = report(&[&FAILS, &PASSES]);
        assert!(
            text.starts_with("TAP version 14\n1..2\nnot ok 1 - fails\n# "),
            "{text}"
        );
        assert!(text.contains("# first\n# second\n"), "{text}");
        assert!(text.ends_with("ok 2 - passes\n"), "{text}");
        assert_eq!(
            summary,
            Summary {
                cases: 2,
                failed: 1
            }
        );
        assert!(!summary.is_success());
    }

    #[test]
    fn an_empty_suite_is_no_success() {
        assert!(!report(&[]).1.is_success());
        assert!(report(&[&PASSES]).1.is_success());
    }

    #[test]
    fn a_case_that_hangs_has_failed() {
        let limit = Duration::from_millis(50);
        let reason = attempt(limit, || thread::sleep(Duration::from_secs(3600))).unwrap_err();
        assert!(reason.starts_with("hung"), "{reason}");
    }
}
