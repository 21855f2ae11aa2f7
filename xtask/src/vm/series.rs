// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernels that the driver is tested on. All that differs between them is a value in a table.

use super::apt::{self, Archive};
use super::subject::Backend;

/// A line of kernels. Which of its builds the archive holds changes every week.
pub(crate) struct Series {
    /// What `--kernel` and messages call it, and its folder.
    pub(crate) name: &'static str,
    /// What its releases begin with, as `uname -r` says them.
    pub(crate) prefix: &'static str,
    /// What they end with.
    pub(crate) flavour: &'static str,
    pub(crate) archive: &'static Archive,
    /// The compiler that its headers are for, where Debian 12 has no such.
    pub(crate) compiler: Option<&'static str>,
    /// What sparse is told, which does not know the C of the newest headers.
    pub(crate) sparse: &'static str,
    /// How the driver hears of a restore: with a vmgenid device in the machine, if there is a
    /// notifier for it; and without one.
    pub(crate) backends: &'static [Backend],
}

static V5_10: Series = Series {
    name: "5.10",
    prefix: "5.10.",
    flavour: "-amd64",
    archive: &apt::BULLSEYE,
    compiler: Some("gcc-10"),
    sparse: "",
    backends: &[Backend::Acpi, Backend::Trigger],
};

static V6_1: Series = Series {
    name: "6.1",
    prefix: "6.1.",
    flavour: "-amd64",
    archive: &apt::MACHINE,
    compiler: None,
    sparse: "",
    backends: &[Backend::Vmfork],
};

static V6_1_CLOUD: Series = Series {
    name: "6.1-cloud",
    prefix: "6.1.",
    flavour: "-cloud-amd64",
    archive: &apt::MACHINE,
    compiler: None,
    sparse: "",
    backends: &[Backend::Acpi, Backend::Trigger],
};

static V6_12: Series = Series {
    name: "6.12",
    prefix: "6.12.",
    flavour: "-amd64",
    archive: &apt::MACHINE,
    compiler: None,
    sparse: "",
    backends: &[Backend::Vmfork],
};

/// Whatever is the newest.
static V7: Series = Series {
    name: "7",
    prefix: "7.",
    flavour: "-amd64",
    archive: &apt::TRIXIE,
    compiler: Some("gcc-14"),
    sparse: "-D__typeof_unqual__=__typeof__ '-D__builtin_strlen(text)=(sizeof(text) - 1)'",
    backends: &[Backend::Vmfork],
};

pub(crate) static ALL: [&Series; 5] = [&V5_10, &V6_1, &V6_1_CLOUD, &V6_12, &V7];

/// What `cargo xtask test` runs.
pub(crate) static DAILY: [&Series; 2] = [&V6_1, &V6_12];

/// What has a vmclock driver.
pub(crate) static NEWEST: &Series = &V7;

/// What Debian 12 has the source of.
pub(crate) static SOURCE: &Series = &V6_12;

/// What is tested when nothing else is asked for.
pub(crate) static DEFAULT: &Series = &V6_1;

/// For the command line.
pub(crate) fn parser() -> impl clap::builder::TypedValueParser<Value = &'static Series> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};

    let names = ALL.iter().map(|series| series.name);
    PossibleValuesParser::new(names).try_map(|name| {
        let mut all = ALL.iter().copied();
        all.find(|series| series.name == name)
            .ok_or("there is no such series")
    })
}

impl Series {
    /// A release without its flavour, if it is of this series.
    pub(crate) fn base<'a>(&self, release: &'a str) -> Option<&'a str> {
        let base = release.strip_suffix(self.flavour)?;
        // The end of another flavour is a word: `-cloud` of `6.1.0-56-cloud-amd64`.
        let is_plain = base.ends_with(|c: char| c.is_ascii_digit());
        (is_plain && base.starts_with(self.prefix)).then_some(base)
    }
}

/// The numbers of a release, in order: `6.1.0-56-amd64` is 6, 1, 0, 56, 64.
pub(crate) fn numbers(release: &str) -> Vec<u64> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_number() {
        assert!(numbers("6.1.0-9-amd64") < numbers("6.1.0-10-amd64"));
        assert_eq!(numbers("6.1.0-56-amd64"), [6, 1, 0, 56, 64]);
    }

    #[test]
    fn a_release_is_of_one_series() {
        let of = |release: &str| -> Vec<_> {
            let all = ALL.iter();
            all.filter(|series| series.base(release).is_some())
                .map(|series| series.name)
                .collect()
        };
        assert_eq!(of("6.1.0-56-amd64"), ["6.1"]);
        assert_eq!(of("6.1.0-56-cloud-amd64"), ["6.1-cloud"]);
        assert_eq!(of("6.12.117+deb12-amd64"), ["6.12"]);
        assert!(of("6.1.0-56-rt-amd64").is_empty());
        assert!(of("6.12-amd64").is_empty());
    }
}
