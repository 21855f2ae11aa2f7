// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The record that the kernel logs when it has reseeded itself after a restore.
//!
//! Linux 5.18 and later with `CONFIG_VMGENID` print it, once the entropy is new, for each new id that
//! the hypervisor gives. `/dev/kmsg` gives one record at each read. What other processes write to that
//! file has another facility than the kernel's own records, so nobody can forge one.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, SeekFrom, open, seek};
use rustix::io::{Errno, read};

const PATH: &str = "/dev/kmsg";
const TEXT: &[u8] = b"random: crng reseeded due to virtual machine fork";
/// More than the longest record.
const RECORD_LEN: usize = 8192;
/// Records that are read before others have their turn.
const TURN: usize = 4096;
/// Where the kernel's driver has its devices, as the driver is one of ACPI or of a platform.
const DRIVERS: [&str; 2] = [
    "/sys/bus/platform/drivers/vmgenid",
    "/sys/bus/acpi/drivers/vmgenid",
];

pub(super) struct Log {
    file: OwnedFd,
    /// The sequence number of the next record; `None` before the first one, and after some were lost.
    next: Option<u64>,
    /// Records before this one were dealt with by an earlier broker.
    first: u64,
}

/// What the records that were read say, all together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) is_reseeded: bool,
    /// Some were lost.
    pub(super) is_missing: bool,
}

impl Log {
    /// The kernel's log, if the kernel logs restores here and this process may read it.
    pub(super) fn open() -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let file = open(PATH, flags, Mode::empty()).map_err(|error| match error {
            Errno::PERM | Errno::ACCESS => format!(
                "{PATH}: {error}; it takes CAP_SYSLOG where kernel.dmesg_restrict is 1, and the \
                 permission to read the file"
            ),
            Errno::NOENT => format!(
                "{PATH}: {error}; in a service, ProtectKernelLogs= and PrivateDevices= take it away"
            ),
            error => format!("{PATH}: {error}"),
        })?;
        match DRIVERS.iter().any(|driver| has_device(Path::new(driver))) {
            false => Err(
                "the kernel has no VMGENID device here, or no driver for one (CONFIG_VMGENID), and \
                 so it logs no restore"
                    .into(),
            ),
            true => Ok(Self::of(file)),
        }
    }

    /// A log of which each read returns a record, or `EAGAIN`.
    pub(super) fn of(file: OwnedFd) -> Self {
        // What is no file has no beginning either.
        let _ = seek(&file, SeekFrom::Start(0));
        Self {
            file,
            next: None,
            first: 0,
        }
    }

    /// An earlier broker has dealt with the records before this one.
    pub(super) fn go_on_from(&mut self, sequence: u64) {
        self.first = sequence;
        self.next = Some(sequence);
    }

    /// Takes what is there for dealt with. Returns once there is nothing more to read.
    ///
    /// # Errors
    ///
    /// The log cannot be read.
    pub(super) fn skip(&mut self) -> Result<(), String> {
        loop {
            let before = self.next;
            let heard = self.read()?;
            if self.next == before && heard == Heard::default() {
                return Ok(());
            }
        }
    }

    /// The sequence number of the record after the last one that was read.
    pub(super) fn next(&self) -> Option<u64> {
        self.next
    }

    /// Reads the records that are there. Never waits.
    ///
    /// # Errors
    ///
    /// The log cannot be read any more.
    pub(super) fn read(&mut self) -> Result<Heard, String> {
        let mut heard = Heard::default();
        let mut record = [0; RECORD_LEN];
        for _ in 0..TURN {
            match read(&self.file, &mut record) {
                Ok(0) => return Err("the log has ended".into()),
                Ok(length) => self.take(record.get(..length).unwrap_or_default(), &mut heard),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // Records were overwritten before they were read, or one does not fit.
                Err(Errno::PIPE | Errno::INVAL) => {
                    heard.is_missing = true;
                    self.next = None;
                }
                Err(error) => return Err(format!("reading {PATH}: {error}")),
            }
        }
        Ok(heard)
    }

    fn take(&mut self, record: &[u8], heard: &mut Heard) {
        let Some(record) = Record::parse(record) else {
            // Whatever it is, it may be what this waits for.
            heard.is_missing = true;
            self.next = None;
            return;
        };
        if record.sequence < self.first {
            return;
        }
        if self.next.is_some_and(|next| record.sequence > next) {
            heard.is_missing = true;
        }
        self.next = Some(record.sequence.saturating_add(1));
        heard.is_reseeded |= record.is_of_kernel && record.text == TEXT;
    }
}

impl AsFd for Log {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Whether a driver has a device: a link in its directory, as is that to the driver's module. Where
/// sysfs is not mounted, it has none.
fn has_device(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|it| it.is_symlink()))
        .any(|entry| entry.file_name() != "module")
}

struct Record<'a> {
    sequence: u64,
    /// The kernel's facility, which no process can give to a record of its own.
    is_of_kernel: bool,
    /// Up to the first line break. What follows it are properties.
    text: &'a [u8],
}

impl<'a> Record<'a> {
    /// `PREFIX,SEQUENCE,TIME,FLAGS[,MORE…];TEXT\n[ KEY=VALUE\n]…`
    fn parse(record: &'a [u8]) -> Option<Self> {
        let end = record.iter().position(|&byte| byte == b';')?;
        let (header, text) = (record.get(..end)?, record.get(end + 1..)?);
        let mut fields = header.split(|&byte| byte == b',');
        let mut number = || -> Option<u64> {
            let field = fields.next()?;
            let is_number = !field.is_empty() && field.iter().all(u8::is_ascii_digit);
            let field = std::str::from_utf8(field).ok().filter(|_| is_number)?;
            field.parse().ok()
        };
        let (prefix, sequence) = (number()?, number()?);
        Some(Self {
            sequence,
            // The three lower bits are the level.
            is_of_kernel: prefix >> 3 == 0,
            text: text.split(|&byte| byte == b'\n').next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(log: &mut Log, records: &[&str]) -> Heard {
        let mut heard = Heard::default();
        for record in records {
            log.take(record.as_bytes(), &mut heard);
        }
        heard
    }

    fn log() -> Log {
        Log::of(open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap())
    }

    const RESEEDED: Heard = Heard {
        is_reseeded: true,
        is_missing: false,
    };
    const MISSING: Heard = Heard {
        is_reseeded: false,
        is_missing: true,
    };

    #[test]
    fn only_the_kernel_s_own_whole_text_is_a_restore() {
        let text = "random: crng reseeded due to virtual machine fork";
        for prefix in ["0", "5", "7"] {
            let record = format!("{prefix},7,1312438,-;{text}\n");
            assert_eq!(heard(&mut log(), &[&record]), RESEEDED, "{record}");
        }
        // Fields that come later in the header, properties, and no line break.
        for record in [
            format!("5,7,1312438,-,caller=T1;{text}\n SUBSYSTEM=acpi\n"),
            format!("5,7,1312438,c;{text}"),
        ] {
            assert_eq!(heard(&mut log(), &[&record]), RESEEDED, "{record}");
        }
        for record in [
            // What user space writes, whatever level it asks for.
            format!("8,7,1,-;{text}\n"),
            format!("13,7,1,-;{text}\n"),
            format!("4096,7,1,-;{text}\n"),
            // Other texts that have it in them.
            format!("5,7,1,-; {text}\n"),
            format!("5,7,1,-;{text} \n"),
            format!("5,7,1,-;comm: {text}\n"),
            format!("5,7,1,-;evil\n {text}\n"),
            format!("5,7,1,-;{text}\\x0a\n"),
            "5,7,1,-;random: crng init done\n".into(),
        ] {
            assert_eq!(heard(&mut log(), &[&record]), Heard::default(), "{record}");
        }
    }

    #[test]
    fn a_driver_has_a_device_whatever_its_name() {
        use std::os::unix::fs::symlink;

        for name in ["VMGENCTR:00", "QEMUVGID:00", "9030000.vmgenid"] {
            let driver = tempfile::tempdir().unwrap();
            assert!(!has_device(&driver.path().join("missing")));
            fs::write(driver.path().join("bind"), "").unwrap();
            symlink("/", driver.path().join("module")).unwrap();
            assert!(!has_device(driver.path()));
            symlink("/", driver.path().join(name)).unwrap();
            assert!(has_device(driver.path()), "{name}");
        }
    }

    #[test]
    fn a_gap_and_what_is_no_record_may_have_been_a_restore() {
        let mut log = log();
        assert_eq!(heard(&mut log, &["6,7,1,-;a\n"]), Heard::default());
        assert_eq!(heard(&mut log, &["6,8,1,-;a\n"]), Heard::default());
        assert_eq!(heard(&mut log, &["6,10,1,-;a\n"]), MISSING);
        assert_eq!(log.next(), Some(11));
        for strange in ["", ";", "6;a", "x,1,1,-;a", "6,,1,-;a", "6,+1,1,-;a", "6,1"] {
            assert_eq!(heard(&mut log, &[strange]), MISSING, "{strange}");
        }
        // What comes after that is not a second gap.
        assert_eq!(heard(&mut log, &["6,50,1,-;a\n"]), Heard::default());
    }

    #[test]
    fn an_earlier_broker_has_dealt_with_what_it_has_read() {
        let record = "5,7,1,-;random: crng reseeded due to virtual machine fork\n";
        let mut first = log();
        first.go_on_from(8);
        assert_eq!(heard(&mut first, &[record]), Heard::default());
        assert_eq!(first.next(), Some(8));
        let mut second = log();
        second.go_on_from(7);
        assert_eq!(heard(&mut second, &[record]), RESEEDED);
        let mut third = log();
        third.go_on_from(6);
        let lost = heard(&mut third, &["6,9,1,-;a\n"]);
        assert_eq!(lost, MISSING, "6 to 8 are gone");
    }
}
