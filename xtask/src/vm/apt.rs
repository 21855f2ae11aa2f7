// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Debian's archive: which packages there are, what they need, and fetching them.

use std::path::Path;
use std::process::Command;

use crate::command;
use crate::error::{Context, Result};

/// Where packages come from.
pub(crate) struct Archive {
    /// What an error tells a person to look for.
    pub(crate) needs: &'static str,
}

impl Archive {
    /// The sources that the machine has.
    pub(crate) const MACHINE: Self = Self {
        needs: "Run `apt-get update` as root, on Debian 12 with its main archive",
    };

    /// All packages whose names begin so.
    pub(crate) fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let names = command::output(self.cache().args(["pkgnames", prefix]))?;
        Ok(names.lines().map(str::to_owned).collect())
    }

    pub(crate) fn has(&self, package: &str) -> bool {
        let show = ["show", "--no-all-versions", "--quiet", package];
        command::output(self.cache().args(show)).is_ok_and(|text| !text.is_empty())
    }

    /// What the packages need by name: one step, and every alternative.
    pub(crate) fn direct_dependencies(&self, packages: &[String]) -> Result<Vec<String>> {
        let text = command::output(self.cache().arg("depends").args(packages))?;
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
        let installed = empty.path().join("status");
        std::fs::write(&installed, "").context(|| "cannot write to a temporary folder")?;
        command::fresh_dir(&empty.path().join("partial"))?;
        let status = format!("Dir::State::status={}", installed.display());
        let archives = format!("Dir::Cache::archives={}", empty.path().display());
        let mut apt = self.get();
        apt.args(["-o", &status, "-o", &archives]);
        apt.args(["-o", "Debug::NoLocking=1", "--no-install-recommends"]);
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
        let mut apt = self.get();
        // As root, apt warns that its own user cannot write here. It then does without that user.
        apt.args(["download", "-qq", "-o", "APT::Sandbox::User=root"]);
        command::run(apt.args(packages).current_dir(into))
    }

    pub(crate) fn update(&self) {
        // A source that has nothing to do with us may fail; whether ours is there shows later.
        if let Err(error) = command::run(self.get().args(["update", "-qq"])) {
            eprintln!("xtask: {error}");
        }
    }

    fn get(&self) -> Command {
        Command::new("apt-get")
    }

    fn cache(&self) -> Command {
        Command::new("apt-cache")
    }
}
