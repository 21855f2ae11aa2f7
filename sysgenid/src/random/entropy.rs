// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random bytes of the kernel, to build secrets from.
//!
//! A restored snapshot and a fork copy the whole memory of a process, including every generator of
//! random numbers in it. The kernel's generator is not in the process, and the kernel reseeds it when
//! the hypervisor announces a restore.

use sysgenid_sys::Errno;
#[cfg(feature = "rand_core")]
use sysgenid_sys::internal::cpu;
use sysgenid_sys::internal::entropy;

use crate::base::error::{Error, Kind, Result};

/// Fills all of `bytes` with random bytes of the kernel, for a key, a token or a seed. [`array()`] is
/// shorter where the length is known.
///
/// It makes the system call `getrandom` itself, which leaves no state in this process. The C
/// library's function of the same name is not an equal replacement, and neither are the crates that
/// call it: from glibc 2.41 on it may draw from a generator in the memory of the process (the
/// vDSO's), and CRIU before 4.2 copies that. A read from `/dev/urandom` is as good as this function.
///
/// ```
/// let mut key = [0; 32];
/// sysgenid::entropy::fill(&mut key)?;
/// # assert_ne!(key, [0; 32]);
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// The call waits until the kernel's generator has been seeded, early in the boot. A signal does not
/// end the wait.
///
/// # What is not guaranteed
///
/// - Different bytes in clones whose kernels have not been reseeded: a restored kernel reseeds only
///   when the hypervisor announces the restore, a moment after the resume. A key that is built in that
///   moment is built again by a [`Guarded`](crate::Guarded), once its witness shows the change.
/// - Anything about the bytes after the return. A secret that is built from them and kept belongs in
///   a [`Guarded`](crate::Guarded).
///
/// # Errors
///
/// [`is_entropy`](Error::is_entropy) if the kernel returns none, because a sandbox forbids the call
/// (`ENOSYS`, `EPERM`). Then all of `bytes` is zeroed.
#[cold]
pub fn fill(bytes: &mut [u8]) -> Result<()> {
    let mut rest = &mut *bytes;
    while !rest.is_empty() {
        match draw(rest) {
            Ok(0) => break,
            // A call for more than 256 bytes may be cut short.
            Ok(count) => rest = rest.get_mut(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(bytes, errno)),
        }
    }
    if rest.is_empty() {
        Ok(())
    } else {
        // It does not do that; but a loop would not end.
        Err(failed(bytes, Errno::IO))
    }
}

/// Returns random bytes of the kernel: [`fill`] where a key is built, as long as its type says.
///
/// ```
/// let mut key = sysgenid::Guarded::new(|_generation| Ok(sysgenid::entropy::array::<32>()?));
/// assert_eq!(key.get()?.len(), 32);
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// # Errors
///
/// As [`fill`].
#[cold]
pub fn array<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill(&mut bytes)?;
    Ok(bytes)
}

/// Fills all of `seed`, from the kernel and from the processor.
///
/// A restored kernel reseeds when the hypervisor announces the restore, and a hypervisor counter may
/// change before that. In between, the processor's numbers make the seeds of clones differ. Mixing
/// them in can do no harm, whatever they are.
///
/// # Errors
///
/// As [`fill`].
#[cfg(feature = "rand_core")]
#[cold]
pub(crate) fn seed(seed: &mut [u8]) -> Result<()> {
    fill(seed)?;
    for bytes in seed.chunks_mut(8) {
        let drawn = cpu::random().unwrap_or_default().to_ne_bytes();
        for (byte, drawn) in bytes.iter_mut().zip(drawn) {
            *byte ^= drawn;
        }
    }
    Ok(())
}

fn failed(bytes: &mut [u8], errno: Errno) -> Error {
    bytes.fill(0);
    Error::new(Kind::Entropy).errno(errno)
}

#[cfg(not(all(test, feature = "rng")))]
fn draw(bytes: &mut [u8]) -> Result<usize, Errno> {
    entropy::getrandom(bytes)
}

/// As above, unless a test has this thread's calls fail or cut short.
#[cfg(all(test, feature = "rng"))]
fn draw(bytes: &mut [u8]) -> Result<usize, Errno> {
    test::draw(bytes)
}

#[cfg(all(test, feature = "rng"))]
pub(crate) mod test {
    use std::cell::{Cell, RefCell};

    use super::{Errno, entropy};

    thread_local! {
        /// Calls that this thread has made.
        static MADE: Cell<u64> = const { Cell::new(0) };

        /// Calls that it makes before they fail.
        static CALLS: Cell<Option<u32>> = const { Cell::new(None) };

        /// Whether the kernel gives the same each time, as one does that has not been reseeded.
        static IS_STUCK: Cell<bool> = const { Cell::new(false) };

        /// What happens in each of them.
        static MEANWHILE: RefCell<Box<dyn FnMut()>> = RefCell::new(Box::new(|| {}));
    }

    pub(crate) fn on_call(meanwhile: impl FnMut() + 'static) {
        MEANWHILE.set(Box::new(meanwhile));
    }

    /// How many calls this thread has made.
    pub(crate) fn calls() -> u64 {
        MADE.get()
    }

    /// Has the calls of this thread fail after `calls` more; `None` heals them.
    pub(crate) fn fail_after(calls: impl Into<Option<u32>>) {
        CALLS.set(calls.into());
    }

    pub(super) fn draw(bytes: &mut [u8]) -> Result<usize, Errno> {
        // A destructor at the end of the thread may come later than that of this.
        let _ = MEANWHILE.try_with(|meanwhile| meanwhile.borrow_mut()());
        MADE.set(MADE.get() + 1);
        match CALLS.get() {
            Some(0) => return Err(Errno::NOSYS),
            Some(calls) => CALLS.set(Some(calls - 1)),
            None => {}
        }
        if IS_STUCK.get() {
            bytes.fill(7);
            return Ok(bytes.len());
        }
        // As a signal would cut it.
        let length = bytes.len().min(256);
        entropy::getrandom(bytes.get_mut(..length).unwrap_or_default())
    }

    #[test]
    fn the_processor_tells_seeds_apart_that_the_kernel_does_not() {
        let (mut a, mut b) = ([0; 32], [0; 32]);
        IS_STUCK.set(true);
        super::seed(&mut a).unwrap();
        super::seed(&mut b).unwrap();
        IS_STUCK.set(false);
        if super::cpu::random().is_some() {
            assert!(a.chunks(8).zip(b.chunks(8)).all(|(a, b)| a != b));
        } else {
            println!("this processor draws no numbers");
            assert_eq!((a, b), ([7; 32], [7; 32]));
        }
    }

    #[test]
    fn fills_more_than_one_call_gives() {
        let mut bytes = [0; 1000];
        super::fill(&mut bytes).unwrap();
        // 16 zeros in a row are not chance.
        assert!(bytes.windows(16).all(|window| window != [0; 16]));
    }

    #[test]
    fn leaves_zeros_and_an_error_if_a_later_call_fails() {
        let mut bytes = [7; 1000];
        fail_after(2);
        let error = super::fill(&mut bytes).unwrap_err();
        fail_after(None);
        assert!(error.is_entropy());
        assert_eq!(error.raw_os_error(), Some(Errno::NOSYS.raw_os_error()));
        assert_eq!(bytes, [0; 1000]);
    }
}
