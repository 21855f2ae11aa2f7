// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, PoisonError, RwLock};

use sysgenid::{
    Bound, BuildError, Error, Generation, ProcessWide, Result, Uniqueness, Witness, Zeroize,
    adapter,
};
use tokio::sync::Mutex;

type Building<T> = Pin<Box<dyn Future<Output = Result<T, BuildError>> + Send>>;
type Build<T> = dyn Fn(Generation) -> Building<T> + Send + Sync;
type Value<T, W> = Bound<T, Arc<W>>;

/// A cached secret whose build awaits something, such as a certificate that comes over the network: a
/// [`sysgenid::SharedGuarded`] for tasks.
///
/// The value is built when it is first used, and again before the first use after a restore or a
/// fork.
///
/// ```
/// use sysgenid_tokio::SharedGuarded;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> sysgenid::Result<()> {
/// let lease = SharedGuarded::new(|_generation| async { Ok(ask_for_a_lease().await?) });
///
/// // For as long as it takes, and checked at the end:
/// let held = lease.load().await?;
/// let answer = query(held.get()?).await;
/// held.check()?; // else the answer is not used
///
/// // Or within a closure, again and again until nothing changed meanwhile:
/// let number = lease.with(|lease| lease[0]).await?;
/// # assert_eq!((answer, number), (7, 7));
/// # Ok(())
/// # }
/// # async fn ask_for_a_lease() -> std::io::Result<[u32; 1]> { Ok([7]) }
/// # async fn query(lease: &[u32; 1]) -> u32 { lease[0] }
/// ```
///
/// # What is guaranteed
///
/// - [`load`](Self::load) returns a value during whose build nothing changed, and that was up to date
///   when it was returned.
/// - After a change, one task builds. The others wait for it, and share its error if it fails. The
///   next call builds again.
/// - A build that fails, panics or is dropped leaves no old value behind. If its task is dropped in the
///   middle of it, the next that waits builds.
/// - With [`new`](Self::new) the last that holds an old value wipes it.
///
/// # What is not
///
/// - A build has no deadline but its own: a caller that must not wait forever puts one around it.
/// - A build that awaits its own guard waits forever.
/// - A forked child must not use a guard that tasks of its parent were using during the fork, as
///   with everything that belongs to a runtime.
/// - And what [`sysgenid::SharedGuarded`] does not promise either.
pub struct SharedGuarded<T, W = ProcessWide> {
    witness: Arc<W>,
    current: RwLock<Option<Arc<Value<T, W>>>>,
    /// How the last turn failed; held during a turn.
    turn: Mutex<Option<Error>>,
    /// How many turns came to an end.
    over: AtomicU64,
    bind: fn(Arc<W>, Uniqueness, T) -> Value<T, W>,
    build: Box<Build<T>>,
}

impl<T> SharedGuarded<T> {
    /// Guards what `build` returns with [`ProcessWide`], and wipes what it returned before. Builds
    /// nothing yet.
    ///
    /// `build` must take its entropy from the kernel: see [`sysgenid::Guarded::new`].
    pub fn new<F>(build: impl Fn(Generation) -> F + Send + Sync + 'static) -> Self
    where
        T: Zeroize,
        F: Future<Output = Result<T, BuildError>> + Send + 'static,
    {
        Self::with_witness(ProcessWide, build)
    }

    /// As [`new`](Self::new), but leaves the wiping to the value: for one that wipes itself when it
    /// is dropped, or is not a secret.
    pub fn unwiped<F>(build: impl Fn(Generation) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<T, BuildError>> + Send + 'static,
    {
        Self::unwiped_with_witness(ProcessWide, build)
    }
}

impl<T, W: Witness> SharedGuarded<T, W> {
    /// As [`new`](SharedGuarded::new), with a witness that the caller chooses.
    pub fn with_witness<F>(
        witness: W,
        build: impl Fn(Generation) -> F + Send + Sync + 'static,
    ) -> Self
    where
        T: Zeroize,
        F: Future<Output = Result<T, BuildError>> + Send + 'static,
    {
        Self::bound_by(Bound::with_witness, witness, build)
    }

    /// As [`unwiped`](SharedGuarded::unwiped), with a witness that the caller chooses.
    pub fn unwiped_with_witness<F>(
        witness: W,
        build: impl Fn(Generation) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<T, BuildError>> + Send + 'static,
    {
        Self::bound_by(Bound::unwiped_with_witness, witness, build)
    }

    fn bound_by<F>(
        bind: fn(Arc<W>, Uniqueness, T) -> Value<T, W>,
        witness: W,
        build: impl Fn(Generation) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<T, BuildError>> + Send + 'static,
    {
        Self {
            witness: Arc::new(witness),
            current: RwLock::new(None),
            turn: Mutex::new(None),
            over: AtomicU64::new(0),
            bind,
            build: Box::new(move |generation| Box::pin(build(generation))),
        }
    }

    /// The value of this moment, built if need be. It ends with the generation: see [`Bound`].
    ///
    /// # Errors
    ///
    /// [`is_rebuild`](Error::is_rebuild) if building failed, in this task or in the one that it waited
    /// for; [`is_unsettled`](Error::is_unsettled) if something changed during each of a few builds.
    ///
    /// # Cancel safety
    ///
    /// A build that is under way in this task is dropped with it, and another task that waits starts
    /// the build again. Nothing else is lost.
    pub async fn load(&self) -> Result<Arc<Value<T, W>>> {
        if let Some(value) = self.current() {
            return Ok(value);
        }
        // Relaxed: an older number makes this task share a failure that it has just missed, and no
        // more. It is never older than this task's own turn.
        let before = self.over.load(Ordering::Relaxed);
        let mut failure = self.turn.lock().await;
        // Another task may have built it while this one waited.
        if let Some(value) = self.current() {
            return Ok(value);
        }
        // Relaxed: it is written during a turn, which is this task's now.
        if self.over.load(Ordering::Relaxed) != before {
            if let Some(error) = &*failure {
                return Err(error.clone());
            }
        }
        // First: a build that does not come back has not failed.
        *failure = None;
        let outcome = self.rebuild().await;
        *failure = outcome.as_ref().err().cloned();
        self.over.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// Lets `compute` use the value, and returns its result only if nothing changed from before the
    /// use until after it. Otherwise rebuilds and computes again.
    ///
    /// `compute` may so run more than once: it should have no effect outside but its result.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load); also [`is_unsettled`](Error::is_unsettled) if something changed during
    /// each of a few computations.
    ///
    /// # Cancel safety
    ///
    /// As [`load`](Self::load).
    pub async fn with<R>(&self, mut compute: impl FnMut(&T) -> R) -> Result<R> {
        for _ in 0..adapter::ATTEMPTS {
            let held = self.load().await?;
            let Ok(computed) = held.get().map(&mut compute) else {
                continue;
            };
            if held.check().is_ok() {
                return Ok(computed);
            }
        }
        Err(adapter::unsettled())
    }

    /// The witness that is asked.
    #[must_use]
    pub fn witness(&self) -> &W {
        &self.witness
    }

    fn current(&self) -> Option<Arc<Value<T, W>>> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().filter(|value| value.is_current()).cloned()
    }

    fn set(&self, value: Option<Arc<Value<T, W>>>) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = std::mem::replace(&mut *current, value);
        // The value's own drop may use the guard.
        drop(current);
        drop(old);
    }

    async fn rebuild(&self) -> Result<Arc<Value<T, W>>> {
        // First, so that nothing leaves the old value behind.
        self.set(None);
        for _ in 0..adapter::ATTEMPTS {
            let before = self.witness.mark();
            // A build that saw the change sees what was done before it. The partner is the release
            // order of the store to the counter.
            fence(Ordering::Acquire);
            let value = (self.build)(before.generation())
                .await
                .map_err(|error| adapter::rebuild(error, None))?;
            let value = (self.bind)(Arc::clone(&self.witness), before, value);
            if value.is_current() {
                let value = Arc::new(value);
                self.set(Some(Arc::clone(&value)));
                return Ok(value);
            }
        }
        Err(adapter::unsettled())
    }
}

impl<T, W: fmt::Debug> fmt::Debug for SharedGuarded<T, W> {
    /// Does not show the value, which is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedGuarded")
            .field("witness", &self.witness)
            .finish_non_exhaustive()
    }
}
