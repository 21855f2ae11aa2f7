// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::fmt;
use std::io;

use super::options::OnFailure;
use super::registry::Hook;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// Why one hook failed.
#[derive(Debug)]
pub(super) enum Reason {
    Failed(BoxError),
    Panicked(String),
    TimedOut,
    StillRunning,
    NoThread(io::Error),
    /// The caller broke the run off.
    Interrupted(BoxError),
}

impl Reason {
    /// Whether the hooks that come next are not to run.
    pub(super) fn ends_the_run(&self) -> bool {
        match self {
            Self::Failed(error) => error.is::<EndRun>(),
            Self::Interrupted(_) => true,
            _ => false,
        }
    }
}

/// An error with which a hook ends the whole run at once, for a language where something comes
/// through all calls: see [`adapter::end_run`](crate::adapter::end_run).
#[derive(Debug)]
pub(crate) struct EndRun(pub(crate) BoxError);

impl fmt::Display for EndRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for EndRun {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source()
    }
}

/// One hook that failed, and why.
///
/// Its message names the hook and has the reason. The error that the hook returned is its
/// [`source`](StdError::source) as well, which may be downcast.
#[derive(Debug)]
pub struct HookFailure {
    pub(super) hook: Hook,
    pub(super) reason: Reason,
}

impl HookFailure {
    /// The hook that failed.
    #[must_use]
    pub fn hook(&self) -> &Hook {
        &self.hook
    }

    /// Whether the hook panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self.reason, Reason::Panicked(_))
    }

    /// Whether the hook had not ended at its deadline. It still runs, on its own thread.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.reason, Reason::TimedOut)
    }

    /// Whether the hook was not called, because an earlier call of it, whose deadline has passed,
    /// has not ended yet.
    #[must_use]
    pub fn is_still_running(&self) -> bool {
        matches!(self.reason, Reason::StillRunning)
    }

    /// Whether the failure is only reported, as [`OnFailure::Ignore`] has it, and keeps no run from
    /// succeeding.
    #[must_use]
    pub fn is_ignored(&self) -> bool {
        // A run that was broken off has not run the other hooks.
        self.hook.on_failure() == OnFailure::Ignore && !self.reason.ends_the_run()
    }

    /// The error that the hook returned; `None` if it did not return.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        match &self.reason {
            Reason::Failed(error) | Reason::Interrupted(error) => {
                let ended = error.downcast_ref::<EndRun>();
                Some(ended.map_or(error.as_ref(), |ended| ended.0.as_ref()))
            }
            _ => None,
        }
    }
}

impl fmt::Display for HookFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.hook.name())?;
        match &self.reason {
            Reason::Failed(error) | Reason::Interrupted(error) => error.fmt(f)?,
            Reason::Panicked(message) => write!(f, "panicked: {message}")?,
            Reason::TimedOut => f.write_str("its deadline passed before it ended")?,
            Reason::StillRunning => {
                f.write_str("an earlier call, whose deadline has passed, has not ended")?;
            }
            Reason::NoThread(error) => write!(f, "no thread to run it on: {error}")?,
        }
        f.write_str(")")
    }
}

impl StdError for HookFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.reason {
            Reason::NoThread(error) => Some(error),
            _ => self.error().map(|error| error as _),
        }
    }
}

/// Hooks have failed. All the others have run.
///
/// ```
/// use sysgenid::hooks;
///
/// let hook = hooks::options()
///     .name("renew the lease")
///     .after_restore(|_| Err::<(), _>("the server does not answer"));
/// let errors = hooks::run_after_restore(sysgenid::generation()).unwrap_err();
/// assert_eq!(
///     errors.to_string(),
///     "a hook failed: renew the lease (the server does not answer)"
/// );
/// assert_eq!(errors.failures()[0].hook(), &hook);
/// # hook.unregister();
/// ```
#[derive(Debug)]
pub struct HookErrors {
    failures: Vec<HookFailure>,
}

impl HookErrors {
    /// The run was made by a hook.
    pub(super) const REENTRANT: Self = Self {
        failures: Vec::new(),
    };

    /// Each hook that failed, in the order in which they ran: those whose failure is
    /// [ignored](HookFailure::is_ignored) as well. Empty for [`is_reentrant`](Self::is_reentrant).
    #[must_use]
    pub fn failures(&self) -> &[HookFailure] {
        &self.failures
    }

    /// Whether no hook was called, because the call was made by a hook.
    #[must_use]
    pub fn is_reentrant(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for HookErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failures.len() {
            0 => {
                return f.write_str(
                    "hooks cannot be run by a hook: the run of which it is a part goes on",
                );
            }
            1 => f.write_str("a hook failed: ")?,
            count => write!(f, "{count} hooks failed: ")?,
        }
        list(&self.failures, f)
    }
}

impl StdError for HookErrors {
    /// The first failure that counts.
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let counts = self.failures.iter().find(|failure| !failure.is_ignored());
        counts.map(|failure| failure as _)
    }
}

/// What a run of hooks that succeeded did.
#[derive(Debug)]
pub struct HooksRan {
    count: usize,
    ignored: Vec<HookFailure>,
}

impl HooksRan {
    /// How many hooks were called. Zero if none is registered.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The hooks that failed and whose failure is [ignored](OnFailure::Ignore), in the order in which
    /// they ran.
    #[must_use]
    pub fn ignored(&self) -> &[HookFailure] {
        &self.ignored
    }
}

/// What a run comes to.
pub(super) fn outcome(count: usize, failures: Vec<HookFailure>) -> Result<HooksRan, HookErrors> {
    if failures.iter().all(HookFailure::is_ignored) {
        return Ok(HooksRan {
            count,
            ignored: failures,
        });
    }
    Err(HookErrors { failures })
}

fn list(failures: &[HookFailure], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (index, failure) in failures.iter().enumerate() {
        if index > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{failure}")?;
    }
    Ok(())
}
