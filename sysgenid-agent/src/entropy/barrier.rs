// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel is asked for.

use std::io;

use rustix::fs::{Mode, OFlags, open};
use rustix::thread::{CapabilitySet, capabilities};
use sysgenid_sys::Errno;
use sysgenid_sys::internal::entropy::getrandom;
use sysgenid_sys::internal::reseed::{self, Pool};
use zeroize::Zeroize;

use super::Secret;
use crate::Error;
use crate::error::Kind;

const DEVICE: &str = "/dev/urandom";
/// Before Linux 5.18 the kernel does nothing, and reports success, with less.
const LEAST_COUNT: u32 = 128;

/// Says that the kernel has a new key for its random numbers, in which a secret is mixed.
#[must_use = "it is what allows to change the generation"]
#[derive(Debug)]
pub struct Reseeded {
    origins: Vec<String>,
}

impl Reseeded {
    /// Where the secret was from.
    #[must_use]
    pub fn origins(&self) -> &[String] {
        &self.origins
    }
}

/// Whether this thread has the capability that [`reseed`] takes. In a user namespace that is not the
/// initial one it may have it and still be refused.
#[must_use]
pub fn is_permitted() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Mixes `secret` into the kernel's entropy and has the kernel draw a new key from it, for all who read
/// random bytes from then on: by `getrandom`, from `/dev/urandom`, and through the vDSO.
///
/// The secret is wiped, whatever comes of it.
///
/// # Errors
///
/// [`is_permission`](Error::is_permission) without `CAP_SYS_ADMIN` in the initial user namespace;
/// [`is_not_done`](Error::is_not_done) if the kernel does not count enough entropy for a reseed, or
/// refuses it.
///
/// # Not guaranteed
///
/// The kernel does not show its key. What it reports is checked, and no more.
pub fn reseed(secret: Secret) -> Result<Reseeded, Error> {
    let failed = |error: Errno| match error {
        Errno::PERM | Errno::ACCESS => Error::from(Kind::Permission),
        error => Kind::Io {
            place: DEVICE.into(),
            source: io::Error::from(error),
        }
        .into(),
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    let device = open(DEVICE, flags, Mode::empty()).map_err(failed)?;
    let before = draw()?;

    let mut pool = Pool::new();
    let bytes = secret.bytes();
    for (to, from) in pool.bytes.iter_mut().zip(bytes) {
        *to = *from;
    }
    let added = reseed::add_entropy(&device, &mut pool, bytes.len());
    pool.bytes.zeroize();
    added.map_err(failed)?;

    let count = reseed::entropy_count(&device).map_err(failed)?;
    if count < LEAST_COUNT {
        let why = format!("it counts {count} bits of entropy, and needs {LEAST_COUNT}; try again");
        return Err(Kind::NotDone(why).into());
    }
    match reseed::reseed(&device) {
        Ok(()) => {}
        Err(Errno::PERM | Errno::ACCESS) => return Err(Kind::Permission.into()),
        Err(Errno::NODATA) => {
            let why = "it has never been seeded, early in the boot; try again later".into();
            return Err(Kind::NotDone(why).into());
        }
        Err(error) => return Err(Kind::NotDone(error.to_string()).into()),
    }
    // A generator that is stuck would return them again.
    if draw()? == before {
        return Err(Kind::NotDone("it returns the same bytes again".into()).into());
    }
    Ok(Reseeded {
        origins: secret.origins().to_vec(),
    })
}

/// By the system call, which keeps nothing in this process.
fn draw() -> Result<[u8; 16], Error> {
    let mut bytes = [0; 16];
    match getrandom(&mut bytes) {
        Ok(16) => Ok(bytes),
        Ok(_) => Err(Kind::NotDone("it returns fewer random bytes than asked for".into()).into()),
        Err(error) => Err(Kind::NotDone(format!("getrandom: {error}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use rustix::process::{Uid, geteuid};

    use super::*;

    fn secret() -> Secret {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let mut bytes = [0; 64];
        assert_eq!(getrandom(&mut bytes), Ok(64));
        ours.write_all(&bytes).unwrap();
        drop(ours);
        Secret::read(theirs, "a test").unwrap()
    }

    #[test]
    fn a_reseed_succeeds_or_says_what_it_lacks() {
        match reseed(secret()) {
            Ok(reseeded) => assert_eq!(reseeded.origins(), ["a test"]),
            // In a user namespace, or without root.
            Err(error) => assert!(error.is_permission(), "{error}"),
        }
    }

    #[test]
    fn without_privileges_it_is_an_error() {
        let attempt = || {
            assert!(!is_permitted());
            reseed(secret()).unwrap_err()
        };
        let error = match geteuid().is_root() {
            false => attempt(),
            true => std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    // The thread's alone, and it ends with it.
                    rustix::thread::set_thread_uid(Uid::from_raw(65534)).unwrap();
                    attempt()
                });
                thread.join().unwrap()
            }),
        };
        assert!(error.is_permission(), "{error}");
        assert!(error.to_string().contains("CAP_SYS_ADMIN"), "{error}");
    }
}
