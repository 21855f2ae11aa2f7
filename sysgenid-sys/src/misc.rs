// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel calls a "misc" device. Only files of sysfs and procfs are read for that: opening a
//! device uses it, and a watchdog that was opened by mistake reboots the machine.

use core::fmt::{self, Write};

use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, major, minor, open, readlinkat_raw};
use rustix::io::{Errno, read};

use crate::abi;

/// The name that a driver has registered a misc device by.
#[derive(Clone, Copy)]
pub struct MiscName {
    bytes: [u8; Self::LONGEST],
    length: usize,
}

impl MiscName {
    /// No device of the generation has a longer one. What is longer is cut, and so is none of them.
    const LONGEST: usize = 64;

    fn of(name: &[u8]) -> Self {
        let length = name.len().min(Self::LONGEST);
        let mut bytes = [0; Self::LONGEST];
        for (to, from) in bytes.iter_mut().zip(name) {
            *to = *from;
        }
        Self { bytes, length }
    }

    /// Its bytes, up to the first 64.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl fmt::Debug for MiscName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.as_bytes().escape_ascii())
    }
}

/// Tells what the kernel calls a misc device: sysfs says it, or else `/proc/misc`. The name of the
/// node says nothing, because whoever makes a node chooses its name.
///
/// # Errors
///
/// `ENODEV` if the file is not a misc character device; `ENXIO` if no driver has registered it;
/// `ENODATA` if neither sysfs nor `/proc/misc` can be read here.
///
/// ```
/// use rustix::io::Errno;
/// use sysgenid_sys::device::misc_name;
///
/// let null = rustix::fs::stat("/dev/null")?;
/// assert_eq!(misc_name(&null).unwrap_err(), Errno::NODEV);
/// # Ok::<(), Errno>(())
/// ```
pub fn misc_name(node: &Stat) -> Result<MiscName, Errno> {
    if FileType::from_raw_mode(node.st_mode) != FileType::CharacterDevice
        || major(node.st_rdev) != abi::MISC_MAJOR
    {
        return Err(Errno::NODEV);
    }
    let minor = minor(node.st_rdev);
    match sysfs_name(minor) {
        Some(name) => Ok(name),
        None => proc_name(minor),
    }
}

/// The last component of the link that sysfs has for each device.
fn sysfs_name(minor: u32) -> Option<MiscName> {
    let mut path = Path::default();
    write!(path, "/sys/dev/char/{}:{minor}", abi::MISC_MAJOR).ok()?;
    let mut target = [0; 1024];
    let length = readlinkat_raw(CWD, path.as_str()?, &mut target[..]).ok()?;
    // One that fills all of it may have been cut.
    let target = target.get(..length).filter(|_| length < target.len())?;
    let name = target.rsplit(|byte| *byte == b'/').next()?;
    (!name.is_empty()).then(|| MiscName::of(name))
}

/// The line of `/proc/misc` that begins with the number.
fn proc_name(minor: u32) -> Result<MiscName, Errno> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = open("/proc/misc", flags, Mode::empty()).map_err(|_| Errno::NODATA)?;
    let mut text = [0; 8192];
    let mut length = 0;
    loop {
        // A list that does not fit is not known to its end.
        let rest = text.get_mut(length..).filter(|rest| !rest.is_empty());
        match read(&file, rest.ok_or(Errno::NODATA)?) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(_) => return Err(Errno::NODATA),
        }
    }
    let text = text.get(..length).unwrap_or_default();
    name_in(text, minor).ok_or(Errno::NXIO)
}

fn name_in(list: &[u8], minor: u32) -> Option<MiscName> {
    let mut lines = list.split(|byte| *byte == b'\n');
    lines.find_map(|line| {
        let line = line.trim_ascii_start();
        let end = line.iter().position(|byte| *byte == b' ')?;
        let (number, name) = line.split_at_checked(end)?;
        let number: u32 = core::str::from_utf8(number).ok()?.parse().ok()?;
        let name = name.strip_prefix(b" ")?;
        (number == minor && !name.is_empty()).then(|| MiscName::of(name))
    })
}

/// A short path, without an allocation.
#[derive(Default)]
struct Path {
    text: [u8; 32],
    length: usize,
}

impl Path {
    fn as_str(&self) -> Option<&str> {
        core::str::from_utf8(self.text.get(..self.length)?).ok()
    }
}

impl Write for Path {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        let room = self.text.get_mut(self.length..end).ok_or(fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[u8] = b"126 sysgenid\n 58 network latency\n  1 psaux\n258 vsock\n200 tun\n";

    fn name(list: &[u8], minor: u32) -> Option<Vec<u8>> {
        name_in(list, minor).map(|name| name.as_bytes().to_vec())
    }

    #[test]
    fn a_line_of_the_list_is_found_by_its_number() {
        for (minor, expected) in [
            (126, Some(&b"sysgenid"[..])),
            (58, Some(b"network latency")),
            (1, Some(b"psaux")),
            (258, Some(b"vsock")),
            (200, Some(b"tun")),
            (2, None),
            (12, None),
            (26, None),
        ] {
            assert_eq!(name(LIST, minor).as_deref(), expected, "{minor}");
        }
    }

    #[test]
    fn what_is_no_line_of_the_list_is_nothing() {
        for text in [
            &b""[..],
            b"\n",
            b"126",
            b"126 ",
            b"126\tsysgenid",
            b"-126 sysgenid",
            b"4294967422 sysgenid",
            b"126sysgenid",
            b"x126 sysgenid",
        ] {
            assert_eq!(name(text, 126), None, "{text:?}");
        }
    }

    #[test]
    fn a_name_that_is_too_long_is_no_shorter_one() {
        let list = [b"7 ".as_slice(), &[b'a'; 70]].concat();
        assert_eq!(name(&list, 7), Some(vec![b'a'; 64]));
    }

    /// On a machine that has both, they agree.
    #[test]
    fn sysfs_and_the_list_say_the_same() {
        let Ok(list) = std::fs::read("/proc/misc") else {
            // Nothing to compare.
            return;
        };
        let mut compared = 0;
        for minor in 0..4096 {
            let listed = name_in(&list, minor);
            if let (Some(listed), Some(shown)) = (listed, sysfs_name(minor)) {
                assert_eq!(listed.as_bytes(), shown.as_bytes());
                compared += 1;
            }
        }
        println!("{compared} devices compared");
    }
}
