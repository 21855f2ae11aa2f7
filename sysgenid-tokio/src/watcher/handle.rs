// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A change handled from its wake-up to its acknowledgement.

use std::error::Error as StdError;
use std::future::Future;

use sysgenid::{Generation, Result, adapter};

use super::Watcher;

impl Watcher {
    /// Waits for a change, lets `rebuild` handle it, and acknowledges; starts over if the
    /// generation moved meanwhile. Returns the generation that was acknowledged.
    ///
    /// It has no deadline: put [`tokio::time::timeout`] around it. One task at a time handles: of
    /// several with one watcher, each would rebuild.
    ///
    /// # Errors
    ///
    /// [`is_rebuild`](sysgenid::Error::is_rebuild) if `rebuild` failed: nothing is acknowledged, the
    /// watcher stays outdated, and the next call tries again. Else as [`changed`](Self::changed) and
    /// [`acknowledge`](Self::acknowledge), but never [`is_stale`](sysgenid::Error::is_stale).
    ///
    /// # Cancel safety
    ///
    /// Dropped while it waits, it loses nothing. Dropped during `rebuild`, it drops that where it
    /// stands; nothing is acknowledged, and the next call starts `rebuild` anew. Once `rebuild` is
    /// done, there is no further point to drop it at before it has acknowledged.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use sysgenid_tokio::Watcher;
    ///
    /// struct Keys;
    /// impl Keys {
    ///     async fn rotate(&self, _: sysgenid::Generation) -> std::io::Result<()> {
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let broker = sysgenid_broker::testing::Broker::start()?;
    /// let watcher = Watcher::open_at(broker.path()).await?;
    /// let generation = sysgenid::Orchestrator::open_at(broker.path())?.trigger()?;
    ///
    /// let keys = Arc::new(Keys);
    /// let task = tokio::spawn(async move {
    ///     watcher.handle(async |generation| keys.rotate(generation).await).await
    /// });
    /// assert_eq!(task.await??, generation);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # What `rebuild` may borrow
    ///
    /// It is a closure that returns a future, and not an `AsyncFnMut`: the compiler does not prove for
    /// any such closure that captures something that the whole can be sent between threads, so no task
    /// could call this. The price is that the future may borrow what the closure borrows, but not the
    /// closure itself: `async |generation| …` may *use* what is around it, not change it. Where the
    /// state is not shared, write the loop:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # async fn rotate(keys: &mut Vec<u64>, by: u64) -> std::io::Result<()> { keys.push(by); Ok(()) }
    /// # let broker = sysgenid_broker::testing::Broker::start()?;
    /// # let watcher = sysgenid_tokio::Watcher::open_at(broker.path()).await?;
    /// # sysgenid::Orchestrator::open_at(broker.path())?.trigger()?;
    /// let mut keys = Vec::new();
    /// loop {
    ///     let generation = watcher.changed().await?;
    ///     rotate(&mut keys, generation.get()).await?;
    ///     match watcher.acknowledge(generation) {
    ///         Ok(()) => break,
    ///         Err(error) if error.is_stale() => {} // it moved meanwhile
    ///         Err(error) => return Err(error.into()),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn handle<E, Rebuilt>(
        &self,
        mut rebuild: impl FnMut(Generation) -> Rebuilt,
    ) -> Result<Generation>
    where
        E: Into<Box<dyn StdError + Send + Sync>>,
        Rebuilt: Future<Output = Result<(), E>>,
    {
        loop {
            let generation = self.changed().await?;
            rebuild(generation)
                .await
                .map_err(|error| adapter::rebuild(error, self.source()))?;
            match self.acknowledge(generation) {
                Ok(()) => return Ok(generation),
                Err(error) if error.is_stale() => {}
                Err(error) => return Err(error),
            }
        }
    }
}
