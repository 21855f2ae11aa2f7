// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's random numbers. It reseeds its generator on a restore, and no copy of it is in this
//! process.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};
use sysgenid_sys::cpu;

use crate::error::{Error, Kind, Result};

/// Fills all of `seed`, from the kernel and from the processor.
///
/// A restored kernel reseeds only when it is told of the restore, and a counter of the hypervisor's may
/// have changed before. What the processor draws tells clones apart meanwhile; and it can do no harm,
/// whatever it draws.
///
/// # Errors
///
/// As [`fill`].
#[cold]
pub(super) fn seed(seed: &mut [u8]) -> Result<()> {
    fill(seed)?;
    for bytes in seed.chunks_mut(8) {
        let drawn = cpu::random().unwrap_or_default().to_ne_bytes();
        for (byte, drawn) in bytes.iter_mut().zip(drawn) {
            *byte ^= drawn;
        }
    }
    Ok(())
}

/// Fills all of `bytes`.
///
/// # Errors
///
/// The kernel gives none: a sandbox forbids the call. `bytes` is all zeros then, whatever was in it.
#[cold]
pub(super) fn fill(bytes: &mut [u8]) -> Result<()> {
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

fn failed(bytes: &mut [u8], errno: Errno) -> Error {
    bytes.fill(0);
    Error::new(Kind::Entropy).errno(errno)
}

#[cfg(not(test))]
fn draw(bytes: &mut [u8]) -> Result<usize, Errno> {
    getrandom(bytes, GetRandomFlags::empty())
}

/// As above, unless a test has this thread's calls fail or cut short.
#[cfg(test)]
fn draw(bytes: &mut [u8]) -> Result<usize, Errno> {
    test::draw(bytes)
}

#[cfg(test)]
pub(super) mod test {
    use std::cell::{Cell, RefCell};

    use super::{Errno, GetRandomFlags, getrandom};

    thread_local! {
        /// Calls that this thread makes before they fail.
        static CALLS: Cell<Option<u32>> = const { Cell::new(None) };

        /// Whether the kernel gives the same each time, as one does that has not been reseeded.
        static IS_STUCK: Cell<bool> = const { Cell::new(false) };

        /// What happens in each of them.
        static MEANWHILE: RefCell<Box<dyn FnMut()>> = RefCell::new(Box::new(|| {}));
    }

    pub(in crate::rng) fn on_call(meanwhile: impl FnMut() + 'static) {
        MEANWHILE.set(Box::new(meanwhile));
    }

    /// Has the calls of this thread fail after `calls` more; `None` heals them.
    pub(in crate::rng) fn fail_after(calls: impl Into<Option<u32>>) {
        CALLS.set(calls.into());
    }

    pub(super) fn draw(bytes: &mut [u8]) -> Result<usize, Errno> {
        // A destructor at the end of the thread may come later than that of this.
        let _ = MEANWHILE.try_with(|meanwhile| meanwhile.borrow_mut()());
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
        getrandom(
            bytes.get_mut(..length).unwrap_or_default(),
            GetRandomFlags::empty(),
        )
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
