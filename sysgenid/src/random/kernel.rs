// SPDX-License-Identifier: Apache-2.0 OR MIT
use rand_core::{TryCryptoRng, TryRng};

use crate::base::error::{Error, Result};
use crate::random::entropy;

/// The kernel's random numbers as a generator: [`entropy::fill`](crate::entropy::fill) for code that
/// takes one, such as a function that makes a key.
///
/// Each draw is the system call `getrandom`, and nothing of it stays in this process. A generator of
/// rand's that draws from the system (`SysRng`, `OsRng`) makes that call as well, unless the C library
/// answers instead: see [`entropy::fill`](crate::entropy::fill), whose guarantees hold here.
///
/// ```
/// use rand::RngExt;
/// use sysgenid::KernelRng;
/// use sysgenid::rand_core::{TryRng, UnwrapErr};
///
/// let number = KernelRng.try_next_u64()?;
/// // For code that takes a generator which cannot fail, this one panics instead:
/// let key: [u8; 32] = UnwrapErr(KernelRng).random();
/// # assert_ne!(key, [0; 32]);
/// # let _ = number;
/// # Ok::<(), sysgenid::Error>(())
/// ```
///
/// # Errors of a draw
///
/// [`is_entropy`](Error::is_entropy) if the kernel returns no bytes. The traits of rand_core 0.6 have
/// methods without an error; those panic.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelRng;

impl TryRng for KernelRng {
    type Error = Error;

    fn try_next_u32(&mut self) -> Result<u32> {
        entropy::array().map(u32::from_ne_bytes)
    }

    fn try_next_u64(&mut self) -> Result<u64> {
        entropy::array().map(u64::from_ne_bytes)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<()> {
        entropy::fill(bytes)
    }
}

impl TryCryptoRng for KernelRng {}
