// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use sysgenid::hooks::{self, HookContext, HookErrors, HookResult, HooksRan};
use sysgenid::{Generation, Result, adapter};
use tokio::time::timeout;

use crate::runtime;

type BoxError = Box<dyn StdError + Send + Sync>;

/// How long after its deadline a hook is dropped. The run has gone on without it by then, and says that
/// it was late.
const GRACE: Duration = Duration::from_millis(50);

/// Makes an asynchronous function one that can be registered with [`sysgenid::hooks`], beside ordinary
/// ones and in one order with them.
///
/// Each call is a task of the runtime that this was called in, and whatever runs the hooks waits for it: the
/// thread of [`sysgenid::background`], or [`run_after_restore`] here. Unlike a thread, a task can be
/// stopped: a hook with a [deadline](hooks::HookOptions::deadline) is dropped shortly after it, at
/// its next `await`, and can be called again. A panic is the failure of the hook.
///
/// In a task, run hooks by this crate's functions. The calls of [`sysgenid::hooks`] block their thread,
/// so there an asynchronous hook fails instead of holding up the runtime. After the runtime has ended the
/// hook fails as well, until it is unregistered.
///
/// # Errors
///
/// [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use sysgenid::hooks;
///
/// # async fn reconnect() -> io::Result<()> { Ok(()) }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// hooks::options()
///     .name("reconnect")
///     .deadline(Duration::from_secs(5))
///     .after_restore(sysgenid_tokio::hook(|restore| async move {
///         println!("reconnecting for generation {}", restore.generation());
///         reconnect().await
///     })?);
/// let ran = sysgenid_tokio::run_after_restore(sysgenid::generation()).await?;
/// assert_eq!(ran.count(), 1);
/// # Ok(())
/// # }
/// ```
pub fn hook<F, A, R>(
    function: F,
) -> Result<impl Fn(&HookContext) -> Result<(), BoxError> + Send + Sync + 'static>
where
    F: Fn(HookContext) -> A + Send + Sync + 'static,
    A: Future<Output = R> + Send + 'static,
    R: HookResult + Send + 'static,
{
    let runtime = runtime::current(None)?;
    Ok(move |context: &HookContext| {
        let context = context.clone();
        let left = context.deadline().remaining();
        let work = function(context);
        let task = runtime.spawn(async move {
            match left.map(|left| left.saturating_add(GRACE)) {
                Some(limit) => match timeout(limit, work).await {
                    Ok(outcome) => outcome.boxed(),
                    Err(late) => Err(late.into()),
                },
                None => work.await.boxed(),
            }
        });
        match runtime.block_on(task) {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(runtime::shutting_down().into()),
        }
    })
}

/// Runs the hooks for a change, ordinary and asynchronous ones, as [`hooks::run_after_restore`] does it: on
/// a thread of the runtime's pool, so that no hook holds up the runtime.
///
/// # Errors
///
/// [`is_rebuild`](sysgenid::Error::is_rebuild) if hooks failed, after all the others have run: do not
/// acknowledge the change. The [`source`](StdError::source) is the [`HookErrors`].
/// [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime, or if it ends.
///
/// # Cancel safety
///
/// If the future is dropped, the run goes on to its end.
pub async fn run_after_restore(generation: Generation) -> Result<HooksRan> {
    run(move || hooks::run_after_restore(generation)).await
}

/// Runs the hooks for a snapshot, ordinary and asynchronous ones, as [`hooks::run_before_snapshot`] does it:
/// on a thread of the runtime's pool.
///
/// # Errors
///
/// As [`run_after_restore`]: do not take the snapshot.
///
/// # Cancel safety
///
/// If the future is dropped, the run goes on to its end.
pub async fn run_before_snapshot() -> Result<HooksRan> {
    run(hooks::run_before_snapshot).await
}

async fn run(
    run: impl FnOnce() -> Result<HooksRan, HookErrors> + Send + 'static,
) -> Result<HooksRan> {
    let failed = |errors| adapter::rebuild(errors, None);
    runtime::call(None, move || run().map_err(failed)).await
}
