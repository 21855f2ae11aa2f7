// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a broker has dealt with of what its followers show, kept in its directory for the next one.
//!
//! The file says nothing that the page does not have: it is written after each change.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::io::{pread, pwrite, retry_on_intr};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const BOOT_LEN: usize = 36;
/// Digits of a number. A space stands before each.
const DIGITS: usize = 20;
/// The text of a number that is not known.
const UNKNOWN: &str = "--------------------";
const LEN: usize = BOOT_LEN + 3 * (1 + DIGITS) + 1;

/// What was dealt with. `None` is what was not followed, or not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Handled {
    /// The sequence number of the next record of the kernel's log.
    pub(super) kmsg: Option<u64>,
    pub(super) vmclock: Option<u64>,
    pub(super) vmgenid: Option<u64>,
}

/// What the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A broker of this boot has dealt with this.
    Handled(Handled),
    /// It was written before the machine was started, so that no process of then is left.
    OtherBoot,
    /// Nothing, or nothing that can be believed.
    Unknown,
}

pub(super) struct Saved {
    file: OwnedFd,
    /// `None` if the kernel does not say which boot this is: then nothing can be believed later.
    boot: Option<String>,
    last: Option<Handled>,
}

impl Saved {
    pub(super) fn new(file: OwnedFd) -> Self {
        let boot = fs::read_to_string(BOOT_ID).ok();
        let boot = boot.map(|text| text.trim().to_owned());
        Self {
            file,
            boot: boot.filter(|boot| boot.len() == BOOT_LEN && boot.is_ascii()),
            last: None,
        }
    }

    pub(super) fn found(&self) -> Found {
        let mut text = [0; LEN + 1];
        let read = retry_on_intr(|| pread(&self.file, &mut text[..], 0));
        let text = read.ok().and_then(|length| text.get(..length));
        let parsed = text
            .and_then(|text| std::str::from_utf8(text).ok())
            .and_then(parse);
        match (parsed, &self.boot) {
            (Some((boot, handled)), Some(this)) if boot == this => Found::Handled(handled),
            (Some(_), Some(_)) => Found::OtherBoot,
            _ => Found::Unknown,
        }
    }

    /// Writes it, unless it is what was written last.
    pub(super) fn write(&mut self, handled: Handled) {
        let Some(boot) = self.boot.as_ref().filter(|_| self.last != Some(handled)) else {
            return;
        };
        let [kmsg, vmclock, vmgenid] =
            [handled.kmsg, handled.vmclock, handled.vmgenid].map(|number| match number {
                Some(number) => format!("{number:0DIGITS$}"),
                None => UNKNOWN.into(),
            });
        let text = format!("{boot} {kmsg} {vmclock} {vmgenid}\n");
        // Where it fails, the next broker finds what was written before, or nothing whole: it changes
        // the generation once too often.
        let written = retry_on_intr(|| pwrite(&self.file, text.as_bytes(), 0));
        self.last = (written == Ok(text.len())).then_some(handled);
    }
}

/// The boot, and what was dealt with.
fn parse(text: &str) -> Option<(&str, Handled)> {
    let line = text.strip_suffix('\n').filter(|_| text.len() == LEN)?;
    let mut fields = line.split(' ');
    let boot = fields.next().filter(|boot| boot.len() == BOOT_LEN)?;
    let mut number = || -> Option<Option<u64>> {
        let field = fields.next()?;
        let is_number = field.len() == DIGITS && field.bytes().all(|byte| byte.is_ascii_digit());
        match field {
            UNKNOWN => Some(None),
            _ if is_number => field.parse().ok().map(Some),
            _ => None,
        }
    };
    let handled = Handled {
        kmsg: number()?,
        vmclock: number()?,
        vmgenid: number()?,
    };
    fields.next().is_none().then_some((boot, handled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved(text: &str) -> Saved {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(pwrite(&file, text.as_bytes(), 0), Ok(text.len()));
        Saved::new(file.into())
    }

    #[test]
    fn what_was_written_is_found_in_this_boot_only() {
        let mut saved = saved("");
        assert_eq!(saved.found(), Found::Unknown);
        for handled in [
            Handled::default(),
            Handled {
                kmsg: Some(u64::MAX),
                vmclock: Some(0),
                vmgenid: None,
            },
        ] {
            saved.write(handled);
            assert_eq!(saved.found(), Found::Handled(handled));
        }
        saved.boot = Some("another-boot-has-thirty-six-of-these".into());
        assert_eq!(saved.found(), Found::OtherBoot);
        saved.boot = None;
        assert_eq!(saved.found(), Found::Unknown);
    }

    #[test]
    fn what_is_damaged_is_not_known() {
        let boot = "01234567-89ab-cdef-0123-456789abcdef";
        let number = "00000000000000000007";
        let good = format!("{boot} {number} {UNKNOWN} {number}\n");
        assert!(parse(&good).is_some());
        for bad in [
            good.trim_end().to_owned(),
            format!("{good}\n"),
            good.replace('7', "x"),
            good.replace(number, "99999999999999999999"),
            good.replace(' ', "_"),
            String::new(),
        ] {
            assert_eq!(parse(&bad), None, "{bad:?}");
            assert_eq!(saved(&bad).found(), Found::Unknown, "{bad:?}");
        }
    }
}
