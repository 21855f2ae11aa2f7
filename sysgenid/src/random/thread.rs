// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::convert::Infallible;
use std::fmt;

use rand_core::{TryCryptoRng, TryRng};
use sysgenid_sys::internal::lend::Lend;

use super::buffer::Buffer;
use crate::base::error::Result;
use crate::check::{ProcessWide, Uniqueness, Witness};
use crate::random::{entropy, give_up};

thread_local! {
    /// Without a destructor, so that it can be reached until the thread has ended: by the
    /// destructors of others, too.
    static BUFFER: Lend<Buffer> = const { Lend::new(Buffer::EMPTY) };

    /// Wipes it when the thread ends.
    static WIPE: Wipe = const { Wipe };
}

struct Wipe;

impl Drop for Wipe {
    fn drop(&mut self) {
        let _ = with_buffer(Buffer::wipe);
    }
}

/// This thread's generator of random numbers: what `rand::rng()` is, but for restores and forks.
///
/// After a restore, and in a forked child, it takes a new seed from the kernel before it returns
/// another number. Otherwise it costs what rand's costs. It asks [`ProcessWide`]. While that has no
/// source that shows restores, every number is drawn from the kernel by
/// [`entropy::fill`](crate::entropy::fill), so that it is never less safe than the kernel's numbers.
/// Keys come from there in any case, because a restore is not seen at once: see [`ThreadRng`].
///
/// ```
/// use rand::RngExt;
/// use rand::seq::SliceRandom;
///
/// let mut rng = sysgenid::rng();
/// let nonce: [u8; 12] = rng.random();
/// let port = rng.random_range(49152..=65535_u16);
/// let mut servers = ["a", "b", "c"];
/// servers.shuffle(&mut rng);
/// # let _ = (nonce, port, servers);
/// ```
///
/// # Panics
///
/// The generator never does, but drawing from it may: if a seed is needed, at the first draw of a
/// thread and after a change, and the kernel gives none. See [`ThreadRng`].
#[inline]
#[must_use]
pub fn rng() -> ThreadRng {
    ThreadRng(())
}

/// A handle to the generator of the thread that uses it; [`rng`] returns it.
///
/// It is ChaCha with 12 rounds, as rand's `ThreadRng`, and takes new entropy from the kernel after
/// at most 64 KiB, as that does. It is empty, so it may be copied, kept and sent to other threads.
///
/// # What is guaranteed, and what is not
///
/// - Numbers are checked after they were drawn, and returned only if nothing has changed since the
///   seed that they come from: see [`SnapshotSafeRng`](crate::SnapshotSafeRng), whose limits hold
///   here as well. In short: there is a window between the resume of a machine and the change of its
///   generation. In this window, from a few milliseconds to seconds after the resume, clones draw the
///   same numbers. And what was returned is the caller's. So this generator is for numbers: a key is
///   built from [`entropy::array`](crate::entropy::array), which keeps no state in this process.
/// - Without a source that shows restores, and with only a driver of the v5 dialect, nothing is drawn
///   ahead: each draw is a system call. `ProcessWide::verify` reports that as an error. A source that
///   appears later is used from the first draw that is at least a second after the last look.
/// - What was drawn is erased from the generator's memory, and cannot be computed from what is left.
///   The whole is wiped when the thread ends.
/// - A draw in a destructor at the end of the thread works. What it leaves behind is not wiped.
/// - A draw in a signal handler that interrupts another draw of the same thread takes its bytes from
///   the kernel. But a handler must not make the first draw of a thread, nor any draw while the
///   process has no source: these look for one, which allocates.
/// - Only numbers of this generator are covered. A library that has one of its own, or a generator
///   that was seeded from this one, is copied as before.
///
/// # Panics
///
/// A draw panics if a new seed is needed and the kernel gives none, because a sandbox forbids
/// `getrandom`. It returns nothing that is not random, nor what another clone may have. A program
/// that wants an error instead uses a [`SnapshotSafeRng`](crate::SnapshotSafeRng), or calls
/// [`reseed`](Self::reseed) first. The entropy that is added from time to time may be missing; then
/// the generator goes on without it.
#[derive(Clone, Copy, Default)]
pub struct ThreadRng(());

impl ThreadRng {
    /// Discards this thread's generator and seeds a new one from the kernel, as a change would.
    ///
    /// # Errors
    ///
    /// [`is_entropy`](crate::Error::is_entropy) if the kernel gives no random bytes. The next draw tries
    /// again.
    pub fn reseed(&mut self) -> Result<()> {
        // Within another draw there is nothing to discard: the one that is interrupted checks.
        let _ = with_buffer(Buffer::wipe);
        fill(&mut [0; 1])
    }
}

impl TryRng for ThreadRng {
    type Error = Infallible;

    #[inline]
    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let [word] = words();
        Ok(word)
    }

    #[inline]
    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let [low, high] = words();
        Ok(u64::from(high) << 32 | u64::from(low))
    }

    #[inline(always)]
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        // What is asked for most: a UUID, a key, a seed.
        match bytes.len() {
            16 => put(bytes, words::<4>()),
            32 => put(bytes, words::<8>()),
            _ => fill_or_panic(bytes),
        }
        Ok(())
    }
}

impl TryCryptoRng for ThreadRng {}

impl fmt::Debug for ThreadRng {
    /// Shows nothing of the generator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadRng").finish_non_exhaustive()
    }
}

/// All that the process can know; and whoever asks for the mark, to seed a buffer, has it wiped at
/// the thread's end.
struct ThisThread;

impl Witness for ThisThread {
    #[cold]
    fn mark(&self) -> Uniqueness {
        // At the end there is nobody left to wipe what others draw after it.
        let _ = WIPE.try_with(|_| ());
        ProcessWide.mark()
    }

    #[inline(always)]
    fn glance(&self) -> Uniqueness {
        ProcessWide.glance()
    }

    #[cold]
    fn shows_restores(&self) -> bool {
        #[cfg(test)]
        if let Some(answer) = tests::ANSWER.get() {
            return answer;
        }
        ProcessWide.shows_restores()
    }
}

/// So many words.
#[inline(always)]
fn words<const N: usize>() -> [u32; N] {
    match take_words() {
        Some(words) => words,
        None => words_slowly(),
    }
}

#[cold]
#[inline(never)]
fn words_slowly<const N: usize>() -> [u32; N] {
    let is_refilled = with_buffer(|buffer| buffer.need(N)) == Some(true);
    if let Some(words) = is_refilled.then(take_words).flatten() {
        return words;
    }
    let mut bytes = [[0; 4]; N];
    fill_or_panic(bytes.as_flattened_mut());
    bytes.map(u32::from_le_bytes)
}

/// Four bytes of `bytes` for each word.
#[inline(always)]
fn put<const N: usize>(bytes: &mut [u8], words: [u32; N]) {
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
}

#[inline(never)]
fn fill_or_panic(bytes: &mut [u8]) {
    if let Err(error) = fill(bytes) {
        give_up(&error);
    }
}

/// As a draw, but it fails where that panics.
pub(super) fn fill(bytes: &mut [u8]) -> Result<()> {
    with_buffer(|buffer| buffer.fill(&ThisThread, bytes)).unwrap_or_else(|| entropy::fill(bytes))
}

/// So many words, if they are there, and nothing has changed as far as a glance tells.
#[inline(always)]
fn take_words<const N: usize>() -> Option<[u32; N]> {
    BUFFER.with(|buffer| buffer.with(|buffer| buffer.words(&ThisThread)))?
}

/// Lends this thread's buffer to `work`; `None` in a signal handler that interrupts its use.
fn with_buffer<T>(work: impl FnOnce(&mut Buffer) -> T) -> Option<T> {
    BUFFER.with(|buffer| buffer.with(work))
}

/// Discards this thread's generator; the next draw seeds one, if restores are seen by then.
#[cfg(feature = "testing")]
pub(crate) fn forget_thread() {
    let _ = with_buffer(Buffer::wipe);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test")]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::panic::catch_unwind;
    use std::sync::mpsc::{Sender, channel};
    use std::thread;

    use rand_core::Rng;

    use super::{rng, with_buffer};
    use crate::random::entropy::test::{calls, fail_after};

    thread_local! {
        /// What this thread is told when it asks whether restores are seen. The machine that runs
        /// the tests need not have a source.
        pub(super) static ANSWER: Cell<Option<bool>> = const { Cell::new(Some(true)) };
    }

    /// Does something when its thread ends.
    struct AtEnd(RefCell<Option<Box<dyn FnOnce()>>>);

    impl Drop for AtEnd {
        fn drop(&mut self) {
            self.0.take().unwrap()();
        }
    }

    thread_local! {
        static AT_END: AtEnd = const { AtEnd(RefCell::new(None)) };
    }

    fn at_end(work: impl FnOnce() + 'static) {
        AT_END.with(|end| end.0.replace(Some(Box::new(work))));
    }

    fn is_wiped() -> bool {
        with_buffer(|buffer| buffer.is_wiped()).unwrap()
    }

    /// Destructors run in the reverse order, so `first` registers one that runs after the wiping.
    fn in_thread(first: impl FnOnce(Sender<bool>) + Send + 'static) -> bool {
        let (sender, receiver) = channel();
        thread::spawn(move || {
            first(sender);
            assert_ne!(rng().next_u64(), rng().next_u64());
            assert!(!is_wiped());
        })
        .join()
        .unwrap();
        receiver.recv().unwrap()
    }

    #[test]
    fn the_buffer_is_wiped_when_its_thread_ends() {
        assert!(in_thread(|told| at_end(move || told
            .send(is_wiped())
            .unwrap())));
    }

    #[test]
    fn a_destructor_may_draw() {
        assert!(in_thread(|told| {
            at_end(move || told.send(rng().next_u64() != rng().next_u64()).unwrap());
        }));
    }

    #[test]
    fn who_interrupts_a_draw_gets_bytes_of_the_kernel() {
        let mut bytes = [0; 32];
        with_buffer(|_| {
            rng().fill_bytes(&mut bytes);
            assert_ne!(rng().next_u64(), rng().next_u64());
        })
        .unwrap();
        assert_ne!(bytes, [0; 32]);
    }

    #[test]
    fn without_a_source_each_draw_is_the_kernels_and_no_state_is_kept() {
        ANSWER.set(Some(false));
        let draws: [fn(); 5] = [
            || assert_ne!(rng().next_u64(), rng().next_u64()),
            || assert_ne!([rng().next_u32(); 2], [0; 2]),
            || rng().fill_bytes(&mut [0; 1]),
            || rng().fill_bytes(&mut [0; 16]),
            || rng().fill_bytes(&mut [0; 100_000]),
        ];
        for (number, draw) in draws.into_iter().enumerate() {
            let before = calls();
            draw();
            assert!(calls() > before, "draw {number}");
            assert!(is_wiped(), "after draw {number}");
        }
        rng().reseed().unwrap();
        assert!(is_wiped());
        fail_after(0);
        assert!(catch_unwind(|| rng().next_u32()).is_err());
        assert!(rng().reseed().unwrap_err().is_entropy());
        fail_after(None);

        // One has appeared.
        ANSWER.set(Some(true));
        rng().next_u64();
        let before = calls();
        draws[0]();
        assert_eq!(calls(), before);
        assert!(!is_wiped());
    }

    /// Outside, nothing may show the restore that makes the state a copy.
    #[cfg(feature = "testing")]
    #[test]
    fn what_was_seeded_in_a_tests_world_is_not_used_outside_of_it() {
        ANSWER.set(None);
        let restores = crate::testing::Restores::new();
        restores.run(|| {
            rng().next_u64();
            let before = calls();
            rng().next_u64();
            assert_eq!(calls(), before, "it was drawn ahead");
        });
        assert!(is_wiped());
        ANSWER.set(Some(false));
        rng().next_u64();
        assert!(is_wiped());
    }

    #[test]
    fn a_panic_for_lack_of_entropy_is_no_end() {
        fail_after(0);
        let error = catch_unwind(|| rng().next_u64()).unwrap_err();
        let message = error.downcast_ref::<String>().unwrap();
        assert!(message.contains("random"), "{message}");
        assert!(rng().reseed().unwrap_err().is_entropy());
        fail_after(None);
        rng().reseed().unwrap();
        assert_ne!(rng().next_u64(), rng().next_u64());
    }

    #[test]
    fn threads_draw_different_numbers() {
        let threads: Vec<_> = (0..8)
            .map(|_| thread::spawn(|| (0..1000).map(|_| rng().next_u64()).collect::<Vec<_>>()))
            .collect();
        let mut drawn: Vec<_> = threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 8000);
    }
}
