// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's random numbers. It reseeds its generator on a restore, and no copy of it is in this
//! process.

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::{Error, Kind, Result};

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
        // As a signal would cut it.
        let length = bytes.len().min(256);
        getrandom(
            bytes.get_mut(..length).unwrap_or_default(),
            GetRandomFlags::empty(),
        )
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
