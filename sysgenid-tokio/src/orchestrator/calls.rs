// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Calls that wait for one answer.

use std::sync::Arc;

use sysgenid::{Generation, Orchestrator, Result, Straggler};

use super::AsyncOrchestrator;
use crate::runtime;

impl AsyncOrchestrator {
    /// Changes the generation to the next one. Every watcher is outdated then, the orchestrator's
    /// own included. Returns a generation that is at least as new as this change.
    ///
    /// Quiesce what must not run across the change *before*: some clients abort if the generation
    /// moves while they compute.
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::trigger`]: [`is_permission`](sysgenid::Error::is_permission) (`EACCES`),
    /// [`is_lost`](sysgenid::Error::is_lost), [`is_timeout`](sysgenid::Error::is_timeout) after five
    /// seconds; and [`is_runtime`](sysgenid::Error::is_runtime) outside of a runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the generation may or may not change: a call that is under way goes on to its end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// assert_eq!(orchestrator.trigger().await?.get(), 1);
    /// assert_eq!(orchestrator.changed().await?.get(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn trigger(&self) -> Result<Generation> {
        self.trigger_at_least(0).await
    }

    /// Changes the generation to `min` or to the next one, whichever number is larger: for the
    /// overseer of several systems that wants them to agree.
    ///
    /// # Errors
    ///
    /// As [`trigger`](Self::trigger).
    ///
    /// # Cancel safety
    ///
    /// Dropped, the generation may or may not change: a call that is under way goes on to its end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// assert_eq!(orchestrator.trigger_at_least(7).await?.get(), 7);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn trigger_at_least(&self, min: u32) -> Result<Generation> {
        self.call(move |orchestrator| orchestrator.trigger_at_least(min))
            .await
    }

    /// Names the tracked watchers that have not acknowledged the current generation. It may have
    /// changed by the time the list is read. What the list cannot show on the kernel device is said
    /// [there](Orchestrator::stragglers).
    ///
    /// # Errors
    ///
    /// As [`Orchestrator::stragglers`], and [`is_runtime`](sysgenid::Error::is_runtime) outside of a
    /// runtime.
    ///
    /// # Cancel safety
    ///
    /// It changes nothing. A call that is under way goes on to its end.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use std::time::Duration;
    /// # use sysgenid_tokio::{AsyncOrchestrator, Watcher};
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let orchestrator = AsyncOrchestrator::open_at(broker.path()).await?;
    /// let _watcher = Watcher::open_at(broker.path()).await?;
    /// orchestrator.trigger().await?;
    /// for straggler in orchestrator.stragglers().await? {
    ///     println!("{straggler} is at generation {}", straggler.acknowledged);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn stragglers(&self) -> Result<Vec<Straggler>> {
        self.call(Orchestrator::stragglers).await
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Orchestrator) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        runtime::current(self.source())?;
        let turn = self.calls.take().await;
        let orchestrator = Arc::clone(self.registered.get_ref());
        runtime::call(self.source(), move || {
            let result = call(&orchestrator);
            // In this order: whoever has the turn next has the orchestrator alone.
            drop(orchestrator);
            drop(turn);
            result
        })
        .await
    }
}
