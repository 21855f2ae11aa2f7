// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Bytes that differ from clone to clone.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open};
use sysgenid_sys::internal::hardware::Instruction;
use sysgenid_sys::internal::reseed::MOST;
use zeroize::{Zeroize, Zeroizing};

use crate::Error;
use crate::error::Kind;

/// As many bits as a key of the kernel's generator has.
const LEAST: usize = 32;
/// How often an instruction is tried again, each time that it has no number.
const ATTEMPTS: u32 = 10_000;
const HWRNG: &str = "/dev/hwrng";
/// The kernel asks the device ahead and keeps up to two buffers of its bytes, 64 each on most machines.
/// A snapshot has those in it, so they are the same in each clone.
const KEPT: usize = 512;
/// How long the device may take for all.
const HWRNG_TIME: Duration = Duration::from_secs(2);
/// The kernel's own devices: `/dev/random` and `/dev/urandom`, of the major number of memory.
const OWN: [(u32, u32); 2] = [(1, 8), (1, 9)];

/// Random bytes from outside the machine's snapshot, which are wiped when this is dropped.
pub struct Secret {
    /// On the heap, so that a move leaves no copy behind.
    bytes: Box<Zeroizing<[u8; MOST]>>,
    length: usize,
    origins: Vec<String>,
}

impl Secret {
    fn new() -> Self {
        Self {
            bytes: Box::new(Zeroizing::new([0; MOST])),
            length: 0,
            origins: Vec::new(),
        }
    }

    /// What the processor (RDSEED or RDRAND, RNDRRS) and the hypervisor's random device
    /// (`/dev/hwrng`, as virtio-rng has it) give, as far as there are any.
    ///
    /// # Errors
    ///
    /// [`is_no_bytes`](Error::is_no_bytes) if there is neither.
    ///
    /// ```no_run
    /// let secret = sysgenid_agent::entropy::Secret::of_this_machine()?;
    /// println!("{secret:?}"); // where it is from, and no byte of it
    /// # Ok::<(), sysgenid_agent::Error>(())
    /// ```
    pub fn of_this_machine() -> Result<Self, Error> {
        let mut secret = Self::new();
        let mut missing = Vec::new();
        match Instruction::EACH.into_iter().find(|it| it.is_there()) {
            Some(instruction) => {
                if let Err(why) = secret.add_numbers(instruction) {
                    missing.push(why);
                }
            }
            None => missing.push("the processor has no instruction for them".into()),
        }
        if let Err(why) = secret.add_hwrng(Path::new(HWRNG)) {
            missing.push(why);
        }
        if secret.origins.is_empty() {
            let why = format!(
                "{}; give some with --entropy, at least {LEAST}",
                missing.join("; ")
            );
            return Err(Kind::NoBytes(why).into());
        }
        Ok(secret)
    }

    /// What a file has, up to 512 bytes. `name` is what errors call it. It is read until its end or
    /// until there are so many bytes, and that may wait for a writer.
    ///
    /// # Errors
    ///
    /// [`is_no_bytes`](Error::is_no_bytes) if there are fewer than 32 bytes or they are all the same, and
    /// for the kernel's own random devices, which are as the snapshot has them; else the error of
    /// reading.
    ///
    /// ```
    /// use std::fs::File;
    ///
    /// use sysgenid_agent::entropy::Secret;
    ///
    /// let own = Secret::read(File::open("/dev/urandom")?, "/dev/urandom");
    /// assert!(own.unwrap_err().is_no_bytes());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read(mut file: impl Read + AsFd, name: &str) -> Result<Self, Error> {
        let failed = |source: io::Error| Kind::Io {
            place: name.into(),
            source,
        };
        let found = fstat(&file).map_err(|error| failed(error.into()))?;
        let number = (major(found.st_rdev), minor(found.st_rdev));
        let is_device = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
        if is_device && OWN.contains(&number) {
            let why = format!(
                "{name} is the kernel's own generator, which every clone of a snapshot has; name bytes \
                 that this clone alone was given"
            );
            return Err(Kind::NoBytes(why).into());
        }
        let mut secret = Self::new();
        while let Some(rest) = secret.room() {
            match file.read(rest) {
                Ok(0) => break,
                Ok(length) => secret.length += length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error).into()),
            }
        }
        let bytes = secret.bytes();
        if bytes.len() < LEAST {
            let why = format!("{name} has {} of the {LEAST} that it takes", bytes.len());
            return Err(Kind::NoBytes(why).into());
        }
        if bytes.iter().all(|byte| bytes.first() == Some(byte)) {
            return Err(Kind::NoBytes(format!("those of {name} are all the same")).into());
        }
        secret.origins.push(name.into());
        Ok(secret)
    }

    /// As [`read`](Self::read), of the file at `path`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and that of opening the file.
    pub fn open(path: &Path, name: &str) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Kind::Io {
            place: name.into(),
            source,
        })?;
        Self::read(file, name)
    }

    /// Where it is from.
    #[must_use]
    pub fn origins(&self) -> &[String] {
        &self.origins
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// Where more can be put; `None` if it is full.
    fn room(&mut self) -> Option<&mut [u8]> {
        self.bytes
            .get_mut(self.length..)
            .filter(|rest| !rest.is_empty())
    }

    /// Adds numbers of the processor.
    fn add_numbers(&mut self, instruction: Instruction) -> Result<(), String> {
        let mut numbers = Zeroizing::new([0_u64; LEAST / 8]);
        for number in &mut *numbers {
            *number = (0..ATTEMPTS)
                .find_map(|_| instruction.number())
                .ok_or_else(|| format!("{} has no number", instruction.name()))?;
        }
        // A broken one repeats itself: some AMD processors returned ones only after a suspend.
        let is_repeated = numbers
            .iter()
            .enumerate()
            .any(|(at, number)| numbers.iter().take(at).any(|before| before == number));
        if is_repeated {
            return Err(format!("{} repeats itself", instruction.name()));
        }
        for number in &*numbers {
            let mut bytes = number.to_ne_bytes();
            self.add(&bytes);
            bytes.zeroize();
        }
        self.origins.push(instruction.name().into());
        Ok(())
    }

    /// Adds bytes of the hypervisor's device, of which the first are dropped.
    fn add_hwrng(&mut self, path: &Path) -> Result<(), String> {
        let failed = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let mut device = open(path, flags, Mode::empty())
            .map(File::from)
            .map_err(|error| failed(&error))?;
        let deadline = Instant::now() + HWRNG_TIME;
        let mut bytes = Zeroizing::new([0_u8; KEPT + LEAST]);
        let mut length = 0;
        while let Some(rest) = bytes.get_mut(length..).filter(|rest| !rest.is_empty()) {
            match device.read(rest) {
                Ok(0) => return Err(failed(&"has no bytes")),
                Ok(read) => length += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if Instant::now() > deadline {
                        return Err(failed(&"has no bytes in time"));
                    }
                    sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(failed(&error)),
            }
        }
        let fresh = bytes.get(KEPT..).unwrap_or_default();
        if fresh.iter().all(|byte| fresh.first() == Some(byte)) {
            return Err(failed(&"its bytes are all the same"));
        }
        self.add(fresh);
        self.origins.push("hwrng".into());
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) {
        let Some(room) = self.room() else { return };
        let length = room.len().min(bytes.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.length += length;
    }
}

/// Where it is from, and no byte of it.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret")
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Secret, Error> {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let writer = std::thread::spawn({
            let bytes = bytes.to_vec();
            move || {
                // In pieces.
                for piece in bytes.chunks(7) {
                    if ours.write_all(piece).is_err() {
                        break;
                    }
                }
            }
        });
        let secret = Secret::read(theirs, "a socket");
        writer.join().unwrap();
        secret
    }

    #[test]
    fn what_is_given_is_taken_up_to_its_end() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for (given, taken) in [(32, 32), (100, 100), (512, 512), (1000, 512)] {
            let secret = read(&bytes[..given]).unwrap();
            assert_eq!(secret.bytes(), &bytes[..taken]);
            assert_eq!(secret.origins(), ["a socket"]);
        }
    }

    #[test]
    fn too_few_and_equal_bytes_are_none() {
        let bytes: Vec<u8> = (0..32).collect();
        for (bad, why) in [
            (&bytes[..31], "31 of the 32"),
            (&[], "0 of the 32"),
            (&[7; 100], "all the same"),
            (&[0; 512], "all the same"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.is_no_bytes(), "{error}");
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn the_kernel_s_own_devices_are_refused_by_what_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for device in ["/dev/random", "/dev/urandom"] {
            let link = folder.path().join("seed");
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(device, &link).unwrap();
            let error = Secret::read(File::open(&link).unwrap(), "seed").unwrap_err();
            assert!(error.is_no_bytes(), "{error}");
        }
        let zeros = Secret::read(File::open("/dev/zero").unwrap(), "zeros");
        assert!(zeros.unwrap_err().is_no_bytes());
    }

    #[test]
    fn no_byte_is_shown() {
        let secret = read(&[&b"correct horse battery staple"[..], &[1; 9]].concat()).unwrap();
        let shown = format!("{secret:?}");
        assert!(
            !shown.contains("horse") && !shown.contains("104"),
            "{shown}"
        );
    }

    #[test]
    fn a_machine_gives_other_bytes_each_time() {
        match Secret::of_this_machine() {
            Ok(secret) => {
                let other = Secret::of_this_machine().unwrap();
                assert!(secret.bytes().len() >= LEAST);
                assert_ne!(secret.bytes(), other.bytes());
            }
            Err(error) => {
                assert!(error.is_no_bytes());
                assert!(!Instruction::EACH.into_iter().any(Instruction::is_there));
            }
        }
    }

    #[test]
    fn what_the_kernel_may_have_kept_of_the_device_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hwrng");
        let mut bytes = vec![1; KEPT];
        bytes.extend(0..32);
        std::fs::write(&path, &bytes).unwrap();
        let mut secret = Secret::new();
        secret.add_hwrng(&path).unwrap();
        assert_eq!(secret.bytes(), &bytes[KEPT..]);

        std::fs::write(&path, &bytes[..KEPT]).unwrap();
        assert!(secret.add_hwrng(&path).unwrap_err().contains("no bytes"));
        std::fs::write(&path, vec![0; 2 * KEPT]).unwrap();
        assert!(secret.add_hwrng(&path).unwrap_err().contains("the same"));
    }
}
