// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the kernel driver says of itself in sysfs. Other drivers have no such files.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use rustix::fs::{Stat, major, minor};
use sysgenid_sys::abi::Dialect;

use crate::base::Generation;
use crate::source::{Status, WatcherCounts};

/// Who tells the kernel driver that the machine was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// The kernel's own VMGENID driver, when it has reseeded the kernel's random numbers.
    Vmfork,
    /// The hypervisor, by an ACPI notification, because the kernel has no VMGENID driver.
    Acpi,
    /// Nobody: whoever restores the machine must trigger.
    Trigger,
}

impl Backend {
    const ALL: [Self; 3] = [Self::Vmfork, Self::Acpi, Self::Trigger];

    /// Its name, as in the driver's attribute `backend`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vmfork => "vmfork",
            Self::Acpi => "acpi",
            Self::Trigger => "trigger",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The device's directory in sysfs, which need not be there.
pub(crate) struct Attributes {
    folder: PathBuf,
}

impl Attributes {
    /// Those of the device that a node stands for.
    pub(crate) fn of(node: &Stat) -> Self {
        let (major, minor) = (major(node.st_rdev), minor(node.st_rdev));
        Self {
            folder: PathBuf::from(format!("/sys/dev/char/{major}:{minor}")),
        }
    }

    /// The dialect, if the driver tells. A node that can only be read does not tell it otherwise.
    pub(crate) fn dialect(&self) -> Option<Dialect> {
        let name = self.read("dialect")?;
        [Dialect::V5, Dialect::V6]
            .into_iter()
            .find(|dialect| dialect.name() == name)
    }

    /// All of it, if the driver tells all that there is to count.
    pub(crate) fn status(&self) -> Option<Status> {
        Some(Status {
            generation: Generation::from(self.number("generation")?),
            watchers: Some(WatcherCounts {
                total: self.number("watchers")?,
                tracked: self.number("tracked_watchers")?,
                outdated: self.number("outdated_watchers")?,
            }),
            dialect: self.dialect(),
            backend: self.backend(),
            broker: None,
        })
    }

    fn backend(&self) -> Option<Backend> {
        let name = self.read("backend")?;
        Backend::ALL
            .into_iter()
            .find(|backend| backend.name() == name)
    }

    fn number(&self, name: &str) -> Option<u32> {
        let text = self.read(name)?;
        let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|_| is_plain)
    }

    /// The one line of an attribute.
    fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(name)).ok()?;
        text.strip_suffix('\n').map(str::to_owned)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

    use super::*;

    const GOOD: [(&str, &str); 6] = [
        ("dialect", "v5\n"),
        ("generation", "4294967295\n"),
        ("watchers", "3\n"),
        ("tracked_watchers", "2\n"),
        ("outdated_watchers", "1\n"),
        ("backend", "acpi\n"),
    ];

    /// A directory with the good attributes, but for some.
    fn with(others: &[(&str, Option<&str>)]) -> (tempfile::TempDir, Attributes) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in GOOD {
            fs::write(folder.path().join(name), text).unwrap();
        }
        for (name, text) in others {
            let path = folder.path().join(name);
            match text {
                Some(text) => fs::write(path, text).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
        let attributes = Attributes {
            folder: folder.path().to_owned(),
        };
        (folder, attributes)
    }

    #[test]
    fn a_driver_that_tells_is_believed() {
        let (_folder, attributes) = with(&[]);
        let status = attributes.status().unwrap();
        assert_eq!(status.generation, Generation::from(u32::MAX));
        let watchers = status.watchers.unwrap();
        assert_eq!(
            (watchers.total, watchers.tracked, watchers.outdated),
            (3, 2, 1)
        );
        assert_eq!(status.dialect, Some(Dialect::V5));
        assert_eq!(status.backend, Some(Backend::Acpi));
    }

    #[test]
    fn a_driver_that_tells_nothing_has_no_status() {
        let (_folder, attributes) = with(&GOOD.map(|(name, _)| (name, None)));
        assert_eq!(attributes.status(), None);
        assert_eq!(attributes.dialect(), None);
    }

    #[test]
    fn half_an_answer_is_none() {
        for name in [
            "generation",
            "watchers",
            "tracked_watchers",
            "outdated_watchers",
        ] {
            for wrong in [
                None,
                Some(""),
                Some("\n"),
                Some("1"),
                Some("-1\n"),
                Some("+1\n"),
                Some("4294967296\n"),
                Some("1 \n"),
                Some("1\n2\n"),
            ] {
                let (_folder, attributes) = with(&[(name, wrong)]);
                assert_eq!(attributes.status(), None, "{name}: {wrong:?}");
            }
        }
    }

    #[test]
    fn a_word_of_a_newer_driver_is_not_guessed_at() {
        for word in [
            None,
            Some(""),
            Some("v7\n"),
            Some("v5"),
            Some("V5\n"),
            Some("v4\n"),
        ] {
            let (_folder, attributes) = with(&[("dialect", word), ("backend", word)]);
            let status = attributes.status().unwrap();
            assert_eq!((status.dialect, status.backend), (None, None), "{word:?}");
        }
    }
}
