// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Until everybody has acknowledged.

use std::error::Error as StdError;
use std::future::Future;

use sysgenid::{Deadline, Generation, Result, Settled, adapter};
use tokio::task::coop;

use super::AsyncOrchestrator;
use super::waiting::{self, Limit};
use crate::runtime;

impl AsyncOrchestrator {
    /// Waits until no tracked watcher is outdated.
    ///
    /// The deadline counts from the first poll, by the runtime's clock. If several tasks wait with one
    /// orchestrator, each has its own.
    ///
    /// # Errors
    ///
    /// [`is_outdated`](sysgenid::Error::is_outdated) if the orchestrator's own watcher is or becomes
    /// outdated: rebuild and [`acknowledge`](Self::acknowledge) first, as [`settle`](Self::settle)
    /// does. [`is_timeout`](sysgenid::Error::is_timeout) if the deadline passed:
    /// [`stragglers`](Self::stragglers) tells who is missing. [`is_missing`](sysgenid::Error::is_missing)
    /// if fewer watchers are there than the orchestrator requires. [`is_lost`](sysgenid::Error::is_lost) if
    /// the broker has ended; one that hangs is noticed by the deadline.
    /// [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime; the error of `epoll_ctl`, or on the
    /// kernel device that of starting a thread (`EAGAIN`).
    ///
    /// # Panics
    ///
    /// With a deadline, or while required watchers are missing, in a runtime without its timer or that has
    /// ended.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it stops waiting, and nothing is lost. On the kernel device its thread ends within the time
    /// that it has waited, or two seconds if that is less, and a wait that is begun meanwhile begins after
    /// that.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// let watcher = Watcher::open_at(broker.path()).await?;
    /// orchestrator.trigger().await?;
    /// orchestrator.acknowledge()?;
    /// let (waited, handled) = tokio::join!(
    ///     orchestrator.wait_for_watchers(Duration::from_secs(5)),
    ///     watcher.handle(async |_| std::io::Result::Ok(())),
    /// );
    /// waited?;
    /// handled?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_for_watchers(&self, deadline: impl Into<Deadline>) -> Result<Settled> {
        runtime::current(self.source())?;
        self.wait(Limit::new(deadline.into())).await
    }

    /// After a change: lets `rebuild` handle it for the orchestrator itself, acknowledges, and
    /// waits for all others; starts over if the generation moves meanwhile. Returns the generation
    /// that every tracked watcher has acknowledged, and how many those are.
    ///
    /// If nothing has changed, `rebuild` is not called and the others are waited for. What `rebuild`
    /// may borrow is said at [`Watcher::handle`](crate::Watcher::handle).
    ///
    /// `deadline` limits the waiting and the starting over, not the time that `rebuild` takes. It
    /// counts from the first poll, by the runtime's clock.
    ///
    /// # Errors
    ///
    /// [`is_rebuild`](sysgenid::Error::is_rebuild) if `rebuild` failed: nothing is acknowledged. Else as
    /// [`wait_for_watchers`](Self::wait_for_watchers), but never
    /// [`is_outdated`](sysgenid::Error::is_outdated).
    ///
    /// # Panics
    ///
    /// As [`wait_for_watchers`](Self::wait_for_watchers).
    ///
    /// # Cancel safety
    ///
    /// Dropped during `rebuild`, it drops that where it stands and acknowledges nothing; the next call
    /// starts it anew. Dropped later, the orchestrator has acknowledged, and the next call waits for the
    /// others.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// orchestrator.trigger().await?;
    /// let settled = orchestrator
    ///     .settle(Duration::from_secs(5), async |generation| {
    ///         println!("new host keys for generation {generation}");
    ///         std::io::Result::Ok(())
    ///     })
    ///     .await?;
    /// assert_eq!(settled.generation.get(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn settle<E, Rebuilt>(
        &self,
        deadline: impl Into<Deadline>,
        mut rebuild: impl FnMut(Generation) -> Rebuilt,
    ) -> Result<Settled>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
        Rebuilt: Future<Output = Result<(), E>>,
    {
        runtime::current(self.source())?;
        let limit = Limit::new(deadline.into());
        loop {
            // A rebuild that never waits would keep the thread while the generation moves.
            coop::consume_budget().await;
            let own = self.as_ref().watcher();
            let acknowledged = if let Some(generation) = own.try_changed()? {
                rebuild(generation)
                    .await
                    .map_err(|error| adapter::rebuild(error, self.source()))?;
                own.acknowledge(generation)
            } else {
                Ok(())
            };
            let waited = match acknowledged {
                Ok(()) => self.wait(limit).await,
                Err(stale) => Err(stale),
            };
            match waited {
                Ok(settled) => return Ok(settled),
                Err(error) if error.is_outdated() || error.is_stale() => {
                    if limit.has_passed() {
                        return Err(adapter::watchers_timed_out(self.source()));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn wait(&self, limit: Limit) -> Result<Settled> {
        waiting::wait(self.registered.get_ref(), &self.waits, limit).await
    }
}
