// SPDX-License-Identifier: Apache-2.0 OR MIT
use sysgenid_sys::internal::fork;

/// Makes all that this process guards, caches and seeds old, as a restore does that a source shows:
/// for a program that has learned of a restore in another way, for example from its container's
/// runtime.
///
/// Afterwards a guard rebuilds its value before it gives one out, and `rng()` and each
/// `SnapshotSafeRng` take a new seed before they draw. That holds for every witness that looks at
/// forks, such as [`ProcessWide`](crate::ProcessWide) and [`Probe`](crate::Probe), and in all
/// threads: a use that begins after this has returned sees it. Never waits or fails.
///
/// ```
/// let mut built = 0;
/// let mut guarded = sysgenid::Guarded::unwiped(move |_| {
///     built += 1;
///     Ok(built)
/// });
/// assert_eq!(*guarded.get()?, 1);
/// sysgenid::assume_restored();
/// assert_eq!(*guarded.get()?, 2, "it was rebuilt");
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// # What is not guaranteed
///
/// - It affects this process alone. Other processes and the watchers of this one are not notified,
///   and [`generation`](crate::generation) stays the same: the program that restores the system
///   [triggers](crate::Orchestrator::trigger) a change, if there is a driver.
/// - [`RestoreOnly`](crate::RestoreOnly) does not see it, because such a guard looks at the number of
///   its source and at nothing else. Replace a guard with that witness by a new one.
/// - A use that has begun before may still return an old value. Call this before the threads run
///   that were stopped for the snapshot.
/// - It does not reseed the kernel. In a machine whose kernel was not notified of the restore, the
///   kernel's random numbers may be the same in every clone.
pub fn assume_restored() {
    #[cfg(feature = "testing")]
    if let Some(world) = super::world::here() {
        return world.fork();
    }
    fork::advance();
    // It may have been CRIU, which loses the advice.
    fork::renew();
}
