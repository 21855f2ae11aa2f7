// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The generators by the traits of earlier versions of rand_core, for crates that take those.

#[cfg(feature = "rand_core_06")]
mod zero_six {
    use std::num::NonZeroU32;

    use rand_core::{Rng, SeedableRng, TryCryptoRng, TryRng};
    use rand_core_06::{CryptoRng, Error, RngCore};

    use crate::check::Witness;
    use crate::random::{KernelRng, SnapshotSafeRng, give_up};

    /// The error as one of rand_core's, which has room for a number.
    fn code(error: &crate::Error) -> Error {
        let errno = error.raw_os_error().map(i32::unsigned_abs);
        // There always is one.
        Error::from(errno.and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN))
    }

    macro_rules! implement {
        ($generator:ty $(, $($of:tt)*)?) => {
            /// Panics if the kernel gives no random bytes that are needed, but for `try_fill_bytes`.
            impl$(<$($of)*>)? RngCore for $generator {
                fn next_u32(&mut self) -> u32 {
                    self.try_next_u32().unwrap_or_else(|error| give_up(&error))
                }

                fn next_u64(&mut self) -> u64 {
                    self.try_next_u64().unwrap_or_else(|error| give_up(&error))
                }

                fn fill_bytes(&mut self, bytes: &mut [u8]) {
                    TryRng::try_fill_bytes(self, bytes).unwrap_or_else(|error| give_up(&error));
                }

                fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
                    TryRng::try_fill_bytes(self, bytes).map_err(|error| code(&error))
                }
            }
        };
    }

    implement!(KernelRng);
    implement!(SnapshotSafeRng<R, W>, R: SeedableRng + Rng, W: Witness);

    impl CryptoRng for KernelRng {}
    impl<R: SeedableRng + Rng + TryCryptoRng, W: Witness> CryptoRng for SnapshotSafeRng<R, W> {}

    #[cfg(feature = "rng")]
    impl RngCore for crate::ThreadRng {
        #[inline]
        fn next_u32(&mut self) -> u32 {
            Rng::next_u32(self)
        }

        #[inline]
        fn next_u64(&mut self) -> u64 {
            Rng::next_u64(self)
        }

        #[inline]
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            Rng::fill_bytes(self, bytes);
        }

        /// An error where the others panic.
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
            crate::random::thread::fill(bytes).map_err(|error| code(&error))
        }
    }

    #[cfg(feature = "rng")]
    impl CryptoRng for crate::ThreadRng {}
}

#[cfg(feature = "rand_core_09")]
mod zero_nine {
    use rand_core::{Rng, SeedableRng, TryRng};
    use rand_core_09::{TryCryptoRng, TryRngCore};

    use crate::base::error::{Error, Result};
    use crate::check::Witness;
    use crate::random::{KernelRng, SnapshotSafeRng};

    macro_rules! implement {
        ($generator:ty $(, $($of:tt)*)?) => {
            impl$(<$($of)*>)? TryRngCore for $generator {
                type Error = Error;

                #[inline]
                fn try_next_u32(&mut self) -> Result<u32> {
                    TryRng::try_next_u32(self)
                }

                #[inline]
                fn try_next_u64(&mut self) -> Result<u64> {
                    TryRng::try_next_u64(self)
                }

                #[inline]
                fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<()> {
                    TryRng::try_fill_bytes(self, bytes)
                }
            }
        };
    }

    implement!(KernelRng);
    implement!(SnapshotSafeRng<R, W>, R: SeedableRng + Rng, W: Witness);

    impl TryCryptoRng for KernelRng {}
    impl<R: SeedableRng + Rng + rand_core::TryCryptoRng, W: Witness> TryCryptoRng
        for SnapshotSafeRng<R, W>
    {
    }

    #[cfg(feature = "rng")]
    impl rand_core_09::RngCore for crate::ThreadRng {
        #[inline]
        fn next_u32(&mut self) -> u32 {
            Rng::next_u32(self)
        }

        #[inline]
        fn next_u64(&mut self) -> u64 {
            Rng::next_u64(self)
        }

        #[inline]
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            Rng::fill_bytes(self, bytes);
        }
    }

    #[cfg(feature = "rng")]
    impl rand_core_09::CryptoRng for crate::ThreadRng {}
}
