// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Tables of named cases, and how they are run.

use std::any::Any;
use std::cell::RefCell;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
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
    /// Those that could not run here.
    pub skipped: usize,
}

impl Summary {
    /// Whether anything ran, and nothing failed.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.cases > self.skipped && self.failed == 0
    }
}

/// Ends the case that calls it: something that the case needs is missing on this machine. Only the
/// case's own thread may call it.
///
/// # Panics
///
/// Always: that is how it ends the case.
pub fn skip(reason: impl Into<String>) -> ! {
    panic_any(Skip(reason.into()))
}

struct Skip(String);

/// How a case ended.
enum End {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Runs each case on a separate thread and prints TAP.
///
/// A case that panics has failed, and so has one that takes longer than `limit`; the suite goes on
/// in either case. A case for whose name `cannot_run` returns a reason is not tried: like one that
/// calls [`skip`], it is reported as `ok … # SKIP reason`.
///
/// # Errors
///
/// If `out` takes no more.
pub fn run<S: Clone + Send + 'static>(
    out: &mut dyn Write,
    subject: &S,
    cases: &[&Case<S>],
    limit: Duration,
    cannot_run: &dyn Fn(&str) -> Option<String>,
) -> io::Result<Summary> {
    writeln!(out, "TAP version 14\n1..{}", cases.len())?;
    let mut summary = Summary::default();
    for case in cases {
        summary.cases += 1;
        let subject = subject.clone();
        let run = case.run;
        let end = match cannot_run(case.name) {
            Some(reason) => End::Skipped(reason),
            None => attempt(limit, move || run(&subject)),
        };
        match end {
            End::Passed => writeln!(out, "ok {} - {}", summary.cases, case.name)?,
            End::Skipped(reason) => {
                summary.skipped += 1;
                let reason = reason.replace('\n', " ");
                writeln!(out, "ok {} - {} # SKIP {reason}", summary.cases, case.name)?;
            }
            End::Failed(reason) => {
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

/// Runs `work` on a separate thread.
fn attempt(limit: Duration, work: impl FnOnce() + Send + 'static) -> End {
    keep_panic_messages();
    let (sender, receiver) = mpsc::channel();
    let thread = thread::Builder::new().spawn(move || {
        let end = match catch_unwind(AssertUnwindSafe(work)) {
            Ok(()) => End::Passed,
            Err(payload) => match payload.downcast::<Skip>() {
                Ok(skip) => End::Skipped(skip.0),
                Err(payload) => End::Failed(reason(&*payload)),
            },
        };
        let _ = sender.send(end);
    });
    if let Err(error) = thread {
        return End::Failed(format!("no thread for it: {error}"));
    }
    match receiver.recv_timeout(limit) {
        Ok(end) => end,
        Err(RecvTimeoutError::Timeout) => End::Failed(format!(
            "hung for {limit:?}; what it holds open may disturb the cases after it"
        )),
        Err(RecvTimeoutError::Disconnected) => End::Failed("ended without a result".into()),
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

    const SKIPS: Case<()> = Case {
        name: "skips",
        run: |()| skip("no\nprivilege"),
    };

    fn report(cases: &[&Case<()>]) -> (String, Summary) {
        let mut out = Vec::new();
        let cannot_run = |name: &str| (name == "cannot").then(|| "no users".to_owned());
        let summary = run(&mut out, &(), cases, LIMIT, &cannot_run).unwrap();
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
                failed: 1,
                skipped: 0
            }
        );
        assert!(!summary.is_success());
    }

    #[test]
    fn a_case_that_cannot_run_is_skipped_with_its_reason() {
        const CANNOT: Case<()> = Case {
            name: "cannot",
            run: |()| panic!("it was tried"),
        };
        let (text, summary) = report(&[&SKIPS, &CANNOT, &PASSES]);
        assert_eq!(
            text,
            "TAP version 14\n1..3\nok 1 - skips # SKIP no privilege\n\
             ok 2 - cannot # SKIP no users\nok 3 - passes\n"
        );
        assert_eq!((summary.cases, summary.skipped), (3, 2));
        assert!(summary.is_success());
    }

    #[test]
    fn a_suite_that_is_empty_or_skipped_whole_is_not_a_success() {
        assert!(!report(&[]).1.is_success());
        assert!(!report(&[&SKIPS]).1.is_success());
        assert!(report(&[&PASSES]).1.is_success());
    }

    #[test]
    fn a_case_that_hangs_has_failed() {
        let limit = Duration::from_millis(50);
        let end = attempt(limit, || thread::sleep(Duration::from_secs(3600)));
        assert!(matches!(&end, End::Failed(reason) if reason.starts_with("hung")));
    }
}
