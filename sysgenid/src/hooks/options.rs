// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::borrow::Cow;
use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::context::HookContext;
use super::entry::{Entry, Kind};
use super::failure::BoxError;
use super::registry::{Hook, register};
#[cfg(feature = "testing")]
use crate::check::world::Home;
use crate::check::{ProcessWide, Witness};

/// What the failure of a hook means for the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFailure {
    /// The run fails. The other hooks run nevertheless, but the change is not acknowledged, or the
    /// snapshot is not to be taken.
    #[default]
    Abort,
    /// The failure is reported, and the run succeeds nevertheless.
    Ignore,
}

/// What a hook returns: `()`, or a `Result<(), E>` whose error can be boxed.
pub trait HookResult: sealed::Sealed {
    /// The error in a box.
    #[doc(hidden)]
    fn boxed(self) -> Result<(), BoxError>;
}

impl HookResult for () {
    fn boxed(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<Box<dyn StdError + Send + Sync>>> HookResult for Result<(), E> {
    fn boxed(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for () {}
    impl<E> Sealed for Result<(), E> {}
}

/// How a hook is registered, if not as [`after_restore`](super::after_restore) and
/// [`before_snapshot`](super::before_snapshot) do it: with a name, a deadline, or a failure that is
/// ignored.
///
/// ```
/// use std::time::Duration;
/// use sysgenid::hooks::{self, OnFailure};
///
/// let hook = hooks::options()
///     .name("warm the cache")
///     .deadline(Duration::from_secs(2))
///     .on_failure(OnFailure::Ignore)
///     .after_restore(|restore| println!("warming for generation {}", restore.generation()));
/// let ran = hooks::run_after_restore(sysgenid::generation())?;
/// assert_eq!((ran.count(), ran.ignored().len()), (1, 0));
/// # hook.unregister();
/// # Ok::<(), hooks::HookErrors>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is registered before `after_restore` or `before_snapshot` is called"]
pub struct HookOptions {
    name: Option<Cow<'static, str>>,
    limit: Option<Duration>,
    on_failure: OnFailure,
}

/// Begins to register a hook with other than the default options.
pub fn options() -> HookOptions {
    HookOptions {
        name: None,
        limit: None,
        on_failure: OnFailure::Abort,
    }
}

impl HookOptions {
    /// What the hook is called in messages. The default is the name of the function's type, which for
    /// a closure names the function that it is written in.
    pub fn name(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How long each call of the hook may take. At the deadline it counts as failed and the run goes
    /// on without it; the hook goes on as well, because a thread cannot be stopped. It is not
    /// called again before it has ended, and fails instead.
    ///
    /// A hook with a deadline runs on its own thread (`sysgenid-hook`), which is started for each
    /// call: what is thread-local is not that of the thread that runs the hooks. The default is
    /// none: the hook runs on the calling thread, and the run waits for it as long as it takes.
    pub fn deadline(mut self, after: Duration) -> Self {
        self.limit = Some(after);
        self
    }

    /// What the failure of the hook means for the run. The default is [`OnFailure::Abort`].
    pub fn on_failure(mut self, policy: OnFailure) -> Self {
        self.on_failure = policy;
        self
    }

    /// Registers `function` to be called before a snapshot: see
    /// [`before_snapshot`](super::before_snapshot).
    pub fn before_snapshot<F, R>(self, function: F) -> Hook
    where
        F: Fn(&HookContext) -> R + Send + Sync + 'static,
        R: HookResult,
    {
        self.register(Kind::BeforeSnapshot, function)
    }

    /// Registers `function` to be called after a restore: see
    /// [`after_restore`](super::after_restore).
    pub fn after_restore<F, R>(self, function: F) -> Hook
    where
        F: Fn(&HookContext) -> R + Send + Sync + 'static,
        R: HookResult,
    {
        self.register(Kind::AfterRestore, function)
    }

    fn register<F, R>(self, kind: Kind, function: F) -> Hook
    where
        F: Fn(&HookContext) -> R + Send + Sync + 'static,
        R: HookResult,
    {
        let name = self.name;
        register(Arc::new(Entry {
            name: name.unwrap_or_else(|| std::any::type_name::<F>().into()),
            kind,
            limit: self.limit,
            on_failure: self.on_failure,
            function: Box::new(move |context| function(context).boxed()),
            is_registered: AtomicBool::new(true),
            runs_in: AtomicU32::new(0),
            seen: ArcSwap::from_pointee(ProcessWide.mark()),
            #[cfg(feature = "testing")]
            home: Home::here(),
        }))
    }
}
