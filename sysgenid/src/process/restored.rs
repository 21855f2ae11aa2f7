// SPDX-License-Identifier: Apache-2.0 OR MIT
use sysgenid_sys::fork;

/// Tells this process that it was restored: for a program that has learned it in another way than by
/// a source, from its container's runtime or from a hook that runs after a restore, for example.
///
/// Afterwards all that the process guards, caches and seeds is old, as after a restore that a source
/// shows: a guard builds its value anew before it gives one out, and `rng()` and each
/// `SnapshotSafeRng` seed themselves anew before they draw. It holds for each witness that looks at
/// forks, so for [`ProcessWide`](crate::ProcessWide) and for every [`Probe`](crate::Probe), and for
/// all threads: those that begin a use after this has returned see it. Never waits or fails.
///
/// ```
/// let mut built = 0;
/// let mut guarded = sysgenid::Guarded::unwiped(sysgenid::ProcessWide, move |_| {
///     built += 1;
///     Ok::<_, std::io::Error>(built)
/// });
/// assert_eq!(*guarded.get()?, 1);
/// sysgenid::assume_restored();
/// assert_eq!(*guarded.get()?, 2, "it was built anew");
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// # What is not guaranteed
///
/// - It is about this process alone. Neither other processes nor the watchers of this one learn of
///   it, and [`generation`](crate::generation) stays what it is: whoever restores the system
///   [triggers](crate::Orchestrator::trigger) a change, if there is a driver.
/// - [`RestoreOnly`](crate::RestoreOnly) does not see it, because all that such a guard looks at is
///   the number of its source. Drop and make anew what is guarded by one.
/// - A use that has begun before may go on with what is old, until it ends. Call this before threads
///   go on that were stopped for the snapshot.
/// - It makes secrets old, and the kernel's random numbers no newer. In a machine that was restored
///   without telling its kernel, what is drawn from the kernel may be every clone's.
pub fn assume_restored() {
    fork::advance();
    // It may have been CRIU, which loses the advice.
    fork::renew();
}
