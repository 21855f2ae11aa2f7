// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's archive: which packages there are, what they need, and fetching them.

use std::fmt;
use std::path::Path;
use std::process::Command;

use crate::command;
use crate::error::{Context, Result};

/// Where packages come from.
pub(crate) struct Archive {
    name: &'static str,
    /// The sources, in the format of apt's `.sources` files. Without any, those of the machine.
    sources: Option<&'static str>,
    /// Machines other than this one whose packages it has.
    foreign: &'static [&'static str],
}

/// The machine's own archive: Debian 12's.
pub(crate) static MACHINE: Archive = Archive {
    name: "Debian 12, as the machine's own sources have it",
    sources: None,
    foreign: &[],
};

/// Debian 11, for the oldest kernel that we support.
pub(crate) static BULLSEYE: Archive = Archive {
    name: "bullseye",
    sources: Some(
        "Types: deb\n\
         URIs: http://deb.debian.org/debian\n\
         Suites: bullseye\n\
         Components: main\n\
         Architectures: amd64\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\
         \n\
         Types: deb\n\
         URIs: http://deb.debian.org/debian-security\n\
         Suites: bullseye-security\n\
         Components: main\n\
         Architectures: amd64\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    ),
    foreign: &[],
};

/// Debian 13 with its backports, for the newest kernel that there is.
pub(crate) static TRIXIE: Archive = Archive {
    name: "trixie",
    sources: Some(
        "Types: deb\n\
         URIs: http://deb.debian.org/debian\n\
         Suites: trixie trixie-backports\n\
         Components: main\n\
         Architectures: amd64\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    ),
    foreign: &[],
};

/// Debian 13, for what is built for Arm.
pub(crate) static TRIXIE_WITH_ARM64: Archive = Archive {
    name: "trixie-with-arm64",
    sources: Some(
        "Types: deb\n\
         URIs: http://deb.debian.org/debian\n\
         Suites: trixie\n\
         Components: main\n\
         Architectures: amd64 arm64\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    ),
    foreign: &["arm64"],
};

/// The Debian after that, for the newest Python.
pub(crate) static FORKY: Archive = Archive {
    name: "forky",
    sources: Some(
        "Types: deb\n\
         URIs: http://deb.debian.org/debian\n\
         Suites: forky\n\
         Components: main\n\
         Architectures: amd64\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
    ),
    foreign: &[],
};

/// An archive, with the lists of what it has.
pub(crate) struct Apt {
    pub(crate) archive: &'static Archive,
    options: Vec<String>,
}

impl Apt {
    /// The lists of an archive that is not the machine's own are kept in `dir`.
    pub(crate) fn new(dir: &Path, archive: &'static Archive) -> Result<Self> {
        let mut options = vec![
            // As root, apt warns that its own user cannot write to our folders. It then does
            // without that user.
            "APT::Sandbox::User=root".to_owned(),
            // What the machine has installed does not matter.
            "Dir::State::status=/dev/null".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ];
        if let Some(text) = archive.sources {
            let dir = dir.join("apt").join(archive.name);
            let lists = dir.join("lists/partial");
            std::fs::create_dir_all(&lists)
                .context(|| format!("cannot create {}", lists.display()))?;
            let sources = dir.join("archive.sources");
            std::fs::write(&sources, text)
                .context(|| format!("cannot write {}", sources.display()))?;
            options.extend([
                format!("Dir::Etc::sourcelist={}", sources.display()),
                "Dir::Etc::sourceparts=/dev/null".to_owned(),
                format!("Dir::State::lists={}", dir.join("lists").display()),
                format!("Dir::Cache={}", dir.display()),
                // No more than the packages' names and needs.
                "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
                "Acquire::Languages=none".to_owned(),
            ]);
            if !archive.foreign.is_empty() {
                let machines = ["amd64"].iter().chain(archive.foreign);
                options.extend(machines.map(|name| format!("APT::Architectures::={name}")));
            }
        }
        Ok(Self { archive, options })
    }

    /// All packages whose names begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = command::output(self.command("apt-cache").args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    pub(crate) fn has(&self, package: &str) -> bool {
        let show = ["show", "--no-all-versions", "--quiet", package];
        command::output(self.command("apt-cache").args(show)).is_ok_and(|text| !text.is_empty())
    }

    /// What the packages need by name: one step, and every alternative.
    pub(crate) fn direct_dependencies(&self, packages: &[String]) -> Result<Vec<String>> {
        let text = command::output(self.command("apt-cache").arg("depends").args(packages))?;
        let names = text.lines().filter_map(|line| {
            line.trim_start_matches([' ', '|'])
                .strip_prefix("Depends: ")
        });
        Ok(names.map(str::to_owned).collect())
    }

    /// The packages and everything they need, down to the C library: what apt would install on an empty
    /// system, and fetch if it had fetched nothing before.
    pub(crate) fn all_dependencies(&self, packages: &[&str]) -> Result<Vec<String>> {
        let empty = tempfile::tempdir().context(|| "cannot make a temporary folder")?;
        command::fresh_dir(&empty.path().join("partial"))?;
        let archives = format!("Dir::Cache::archives={}", empty.path().display());
        let mut apt = self.command("apt-get");
        apt.args(["-o", &archives, "--no-install-recommends"]);
        apt.args(["-qq", "--print-uris", "install"]).args(packages);
        let uris = command::output(&mut apt)?;
        // 'http://…/name_version_arch.deb' name_version_arch.deb size hash
        let name = |line: &str| {
            let file = line.split_whitespace().nth(1)?;
            file.split_once('_').map(|(name, _)| name.to_owned())
        };
        Ok(uris.lines().filter_map(name).collect())
    }

    pub(crate) fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        let mut apt = self.command("apt-get");
        apt.args(["download", "-qq"]).args(packages);
        command::run(apt.current_dir(into))
    }

    pub(crate) fn update(&self) {
        // A source that has nothing to do with us may fail; whether ours is there shows later.
        if let Err(error) = command::run(self.command("apt-get").args(["update", "-qq"])) {
            eprintln!("xtask: {error}");
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }
}

impl fmt::Display for Archive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
