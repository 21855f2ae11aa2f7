// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel with detectors, built once from Debian's source package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::apt::{self, Apt};
use super::super::debian::{Folder, Selection, invocation};
use super::super::subject::Backend;
use super::super::{Kernel, Vm, guest};
use crate::command;
use crate::error::{Context, Error, Result};

const RECIPE: &str = "1";

/// The series whose source is taken: the newest that Debian 12 has.
const SOURCE: &str = "linux-source-6.12";

/// What building a kernel needs besides a compiler, and what looks at source code.
const PACKAGES: [&str; 8] = [
    "libc6",
    "flex",
    "bison",
    "m4",
    "libelf1",
    "libelf-dev",
    "coccinelle",
    "libpcre3",
];

/// The source of a kernel, and what builds it.
pub(crate) struct Source {
    root: PathBuf,
    build: PathBuf,
    config: PathBuf,
}

impl Source {
    pub(crate) fn open(vm: &Vm) -> Result<Self> {
        guest::check_compiler()?;
        let dir = vm.dir.join("debug");
        std::fs::create_dir_all(&dir).context(|| format!("cannot create {}", dir.display()))?;
        let folder = Folder {
            path: dir.join("source"),
            recipe: RECIPE,
            apt: Apt::new(&vm.dir, &apt::MACHINE)?,
        };
        let select = |_: &Apt| {
            let packages = PACKAGES.into_iter().chain([SOURCE]);
            Ok(Selection {
                version: SOURCE.into(),
                packages: packages.map(String::from).collect(),
            })
        };
        folder.open(vm.refresh, select, |root, _| unpack(vm, root))?;
        Ok(Self {
            root: folder.path,
            build: dir.join("build"),
            config: vm.workspace.root.join("xtask/kernel/detectors.config"),
        })
    }

    /// The source tree.
    pub(crate) fn tree(&self) -> PathBuf {
        self.root.join(SOURCE)
    }

    /// The program of coccinelle that reads sources.
    pub(crate) fn spatch(&self) -> Result<Command> {
        let [loader, words @ ..] = invocation(&self.root, "usr/bin/spatch")?;
        let mut spatch = Command::new(loader);
        spatch.args(words);
        spatch.env("COCCINELLE_HOME", self.root.join("usr/lib/coccinelle"));
        Ok(spatch)
    }

    /// Builds the kernel if it is not there, or was built of something else.
    pub(crate) fn kernel(&self) -> Result<Kernel> {
        let read = |path: &Path| {
            std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))
        };
        let config = read(&self.config)?;
        let version = command::output(self.make()?.args(["-s", "kernelversion"]))?;
        let recipe = format!("{version}{config}");
        let stamp = self.build.join("stamp");
        if std::fs::read_to_string(&stamp).ok().as_ref() != Some(&recipe) {
            self.build(&config)?;
            std::fs::write(&stamp, recipe)
                .context(|| format!("cannot write {}", stamp.display()))?;
        }
        let release = read(&self.build.join("include/config/kernel.release"))?;
        Ok(Kernel {
            name: "detectors".into(),
            release: release.trim().into(),
            archive: &apt::MACHINE,
            vmlinux: self.build.join("vmlinux"),
            headers: self.build.clone(),
            compiler: None,
            sparse: "",
            backends: &[Backend::Vmfork, Backend::Trigger],
            modules: self.build.join("drivers/virt"),
        })
    }

    fn build(&self, config: &str) -> Result<()> {
        eprintln!("xtask: building a kernel with detectors, which takes minutes");
        command::fresh_dir(&self.build)?;
        let mut make = self.make()?;
        make.arg(format!("KCONFIG_ALLCONFIG={}", self.config.display()));
        command::output(make.args(["-s", "allnoconfig"]))?;
        // An option whose needs are not met is left out without a word.
        let path = self.build.join(".config");
        let made =
            std::fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        let wanted = config.lines().filter(|line| line.starts_with("CONFIG_"));
        let missing: Vec<_> = wanted
            .filter(|line| !made.lines().any(|made| made == *line))
            .collect();
        if !missing.is_empty() {
            return Err(Error::new(format!(
                "this kernel cannot have {}",
                missing.join(", ")
            )));
        }
        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        let mut make = self.make()?;
        make.arg(format!("-j{jobs}"));
        command::output(make.args(["-s", "vmlinux", "modules"])).map(drop)
    }

    /// The kernel's own build, with the programs that were unpacked for it.
    pub(crate) fn make(&self) -> Result<Command> {
        let bin = |name: &str| self.root.join("usr/bin").join(name).display().to_string();
        let libraries = self.root.join("usr/lib/x86_64-linux-gnu");
        let libraries = libraries.display();
        std::fs::create_dir_all(&self.build)
            .context(|| format!("cannot create {}", self.build.display()))?;
        let mut make = Command::new("make");
        make.arg("-C").arg(self.tree());
        make.arg(format!("O={}", self.build.display()));
        make.arg(format!("LEX={}", bin("flex")));
        make.arg(format!("YACC={}", bin("bison")));
        make.env("M4", bin("m4"));
        make.env("BISON_PKGDATADIR", self.root.join("usr/share/bison"));
        // For objtool, which goes through every object, those of modules as well.
        let include = self.root.join("usr/include");
        make.arg(format!("LIBELF_FLAGS=-I{}", include.display()));
        make.arg(format!(
            "LIBELF_LIBS={libraries}/libelf.so.1 -Wl,-rpath,{libraries}"
        ));
        make.env("LC_ALL", "C").env_remove("MAKEFLAGS");
        Ok(make)
    }
}

fn unpack(vm: &Vm, root: &Path) -> Result<()> {
    let archive = root.join(format!("usr/src/{SOURCE}.tar.xz"));
    let mut xz = vm.tools.program("xz")?;
    let mut xz = xz
        .arg("-dc")
        .arg(&archive)
        .stdout(Stdio::piped())
        .spawn()
        .context(|| "cannot run xz")?;
    let mut tar = Command::new("tar");
    tar.arg("-x").current_dir(root);
    if let Some(unpacked) = xz.stdout.take() {
        tar.stdin(unpacked);
    }
    // Not by `command::run`, which gives a command nothing to read.
    let unpacked = tar.status().context(|| "cannot run tar")?;
    let status = xz.wait().context(|| "waiting for xz")?;
    if !unpacked.success() || !status.success() {
        return Err(Error::new(format!("cannot unpack {}", archive.display())));
    }
    std::fs::remove_file(&archive).context(|| format!("cannot remove {}", archive.display()))
}
