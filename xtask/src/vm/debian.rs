// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs and the kernel, unpacked from Debian packages into a cache.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::bzimage;
use crate::command;
use crate::error::{Context, Error, Result};

/// Changes when the contents of the cache do, so that an older one is not taken for it.
const RECIPE: &str = "1";

/// The kernel series that is tested. Which of its builds the archive holds changes every week.
const SERIES: &str = "6.1";

/// What the cache is made of, besides QEMU's dependencies and the kernel.
const PACKAGES: [&str; 5] = [
    "qemu-system-x86",
    "busybox-static",
    "sparse",
    "libelf1",
    "xz-utils",
];

/// A folder of unpacked packages.
pub(crate) struct Debian {
    root: PathBuf,
    /// The release of the kernel, as `uname -r` says it in the guest.
    pub(crate) kernel: String,
}

impl Debian {
    /// Opens the cache, and fills it first if it is not there.
    pub(crate) fn open(dir: &Path, refresh: bool) -> Result<Self> {
        let root = dir.join("debian");
        let stamp = root.join("stamp");
        let usable = |text: String| {
            let (recipe, kernel) = text.trim().split_once(' ')?;
            (recipe == RECIPE).then(|| kernel.to_owned())
        };
        let found = std::fs::read_to_string(&stamp).ok().and_then(usable);
        if let Some(kernel) = found.filter(|_| !refresh) {
            return Ok(Self { root, kernel });
        }
        let kernel = fill(dir, &root)?;
        Ok(Self { root, kernel })
    }

    /// QEMU, as the last words of a command that launches it.
    pub(crate) fn qemu(&self, mut launcher: Command) -> Command {
        launcher.env(
            "QEMU_MODULE_DIR",
            self.path("usr/lib/x86_64-linux-gnu/qemu"),
        );
        launcher.args(invocation(
            &self.root.join("root"),
            "usr/bin/qemu-system-x86_64",
        ));
        for folder in ["usr/share/qemu", "usr/share/seabios", "usr/lib/ipxe/qemu"] {
            launcher.arg("-L").arg(self.path(folder));
        }
        launcher
    }

    pub(crate) fn headers(&self) -> PathBuf {
        self.path(&format!("usr/src/linux-headers-{}", self.kernel))
    }

    /// The library of the kernel's build tools, alone in its folder.
    pub(crate) fn build_libraries(&self) -> PathBuf {
        self.root.join("build-libraries")
    }

    pub(crate) fn sparse(&self) -> PathBuf {
        self.path("usr/bin/sparse")
    }

    pub(crate) fn busybox(&self) -> PathBuf {
        self.path("bin/busybox")
    }

    pub(crate) fn vmlinux(&self) -> PathBuf {
        self.root.join("vmlinux")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join("root").join(path)
    }
}

/// The words that start an unpacked program: through the C library it came with, so that the
/// machine's own libraries do not matter, and without LD_LIBRARY_PATH, which the programs that it
/// starts in turn would inherit.
fn invocation(root: &Path, program: &str) -> [OsString; 4] {
    let folders = ["lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu"];
    let libraries = folders.map(|folder| root.join(folder).into_os_string());
    [
        root.join("lib64/ld-linux-x86-64.so.2").into(),
        "--library-path".into(),
        libraries.join(OsStr::new(":")),
        root.join(program).into(),
    ]
}

/// Fills the cache beside its place and moves it there whole: an interrupted fetch leaves nothing
/// that looks finished.
fn fill(dir: &Path, root: &Path) -> Result<String> {
    check_tools()?;
    let partial = dir.join("debian.partial");
    let debs = partial.join("debs");
    command::fresh_dir(&debs)?;

    let mut updated = false;
    if !knows("linux-image-amd64") {
        update()?;
        updated = true;
    }
    let kernel = match download(&debs) {
        Ok(kernel) => kernel,
        // Lists that are older than the archive name packages that it has dropped since.
        Err(error) if !updated => {
            eprintln!("xtask: {error}; updating the package lists");
            update()?;
            download(&debs)?
        }
        Err(error) => return Err(error),
    };

    let unpacked = partial.join("root");
    for deb in list(&debs)? {
        command::run(Command::new("dpkg").arg("-x").arg(&deb).arg(&unpacked))?;
    }
    command::fresh_dir(&debs)?;
    let image = unpacked.join(format!("boot/vmlinuz-{kernel}"));
    bzimage::unpack(
        &image,
        &invocation(&unpacked, "usr/bin/xz"),
        &partial.join("vmlinux"),
    )?;
    relocate_headers(&unpacked, &kernel)?;
    let library = unpacked.join("usr/lib/x86_64-linux-gnu/libelf.so.1");
    let libraries = partial.join("build-libraries");
    command::fresh_dir(&libraries)?;
    std::fs::copy(&library, libraries.join("libelf.so.1"))
        .context(|| format!("cannot copy {}", library.display()))?;

    write(&partial.join("stamp"), &format!("{RECIPE} {kernel}\n"))?;
    if root.exists() {
        std::fs::remove_dir_all(root).context(|| format!("cannot remove {}", root.display()))?;
    }
    std::fs::rename(&partial, root)
        .context(|| format!("cannot move {} to {}", partial.display(), root.display()))?;
    Ok(kernel)
}

fn check_tools() -> Result<()> {
    let needed = ["apt-get", "apt-cache", "dpkg"];
    let missing: Vec<_> = needed
        .into_iter()
        .filter(|t| command::find(t).is_none())
        .collect();
    if !missing.is_empty() {
        return Err(Error::new(format!(
            "the VM is unpacked from Debian packages, and this machine has no {}. Run it on \
             Debian 12 (a container will do; KVM and root are not needed), or leave the VM out \
             with `cargo xtask test --no-vm`. What it would unpack: {}, and the image, headers \
             and kbuild of Linux {SERIES}",
            missing.join(", "),
            PACKAGES.join(", "),
        )));
    }
    let architecture = command::output(Command::new("dpkg").arg("--print-architecture"))?;
    if architecture.trim() == "amd64" {
        return Ok(());
    }
    Err(Error::new(format!(
        "the VM is for amd64, and this machine is {}",
        architecture.trim()
    )))
}

fn update() -> Result<()> {
    // A source that has nothing to do with us may fail; whether ours is there shows below.
    if let Err(error) = command::run(Command::new("apt-get").args(["update", "-qq"])) {
        eprintln!("xtask: {error}");
    }
    if knows("linux-image-amd64") {
        return Ok(());
    }
    Err(Error::new(
        "apt knows no package linux-image-amd64. Run `apt-get update` as root, on Debian 12 with \
         its main archive",
    ))
}

fn knows(package: &str) -> bool {
    let show = ["show", "--no-all-versions", "--quiet", package];
    command::output(Command::new("apt-cache").args(show)).is_ok_and(|text| !text.is_empty())
}

fn download(debs: &Path) -> Result<String> {
    let kernel = newest_kernel()?;
    let mut packages = dependencies("qemu-system-x86")?;
    packages.extend(PACKAGES.map(String::from));
    packages.extend([
        format!("linux-image-{kernel}"),
        format!("linux-headers-{kernel}"),
        format!("linux-headers-{}", kernel.replace("-amd64", "-common")),
        format!("linux-kbuild-{SERIES}"),
    ]);
    packages.sort();
    packages.dedup();
    eprintln!(
        "xtask: fetching Linux {kernel}, QEMU and {} more packages",
        packages.len() - 5
    );
    // As root, apt warns that its own user cannot write here. It then does without that user.
    let sandbox = ["-o", "APT::Sandbox::User=root"];
    let mut apt = Command::new("apt-get");
    apt.args(["download", "-qq"])
        .args(sandbox)
        .args(&packages)
        .current_dir(debs);
    command::run(&mut apt)?;
    Ok(kernel)
}

/// The newest release of the series whose image and headers are both there, in the plain flavour:
/// the cloud flavour announces no restores.
fn newest_kernel() -> Result<String> {
    let prefix = format!("linux-headers-{SERIES}.");
    let names = command::output(Command::new("apt-cache").args(["pkgnames", &prefix]))?;
    let mut releases: Vec<_> = names
        .lines()
        .filter_map(|name| name.strip_prefix("linux-headers-"))
        .filter(|release| release.ends_with("-amd64") && numbers(release).len() == release_len())
        .filter(|release| !release.contains("cloud") && !release.contains("rt"))
        .collect();
    releases.sort_by_key(|release| numbers(release));
    releases
        .into_iter()
        .rev()
        .find(|release| knows(&format!("linux-image-{release}")))
        .map(str::to_owned)
        .context(|| {
            format!("apt has no linux-image-{SERIES}.*-amd64 with headers: this needs Debian 12")
        })
}

/// The numbers of a release, in order: `6.1.0-56-amd64` is 6, 1, 0, 56, 64.
fn numbers(release: &str) -> Vec<u64> {
    release
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

fn release_len() -> usize {
    numbers("6.1.0-56-amd64").len()
}

/// Everything a package needs, down to the C library: what apt would install on an empty system,
/// and fetch if it had fetched nothing before.
fn dependencies(package: &str) -> Result<Vec<String>> {
    let empty = tempfile::tempdir().context(|| "cannot make a temporary folder")?;
    let installed = empty.path().join("status");
    write(&installed, "")?;
    command::fresh_dir(&empty.path().join("partial"))?;
    let status = format!("Dir::State::status={}", installed.display());
    let archives = format!("Dir::Cache::archives={}", empty.path().display());
    let mut apt = Command::new("apt-get");
    apt.args([
        "-o",
        &status,
        "-o",
        &archives,
        "-o",
        "Debug::NoLocking=1",
        "--no-install-recommends",
    ]);
    apt.args(["-qq", "--print-uris", "install", package]);
    let uris = command::output(&mut apt)?;
    // 'http://…/name_version_arch.deb' name_version_arch.deb size hash
    let name = |line: &str| {
        let file = line.split_whitespace().nth(1)?;
        file.split_once('_').map(|(name, _)| name.to_owned())
    };
    Ok(uris.lines().filter_map(name).collect())
}

/// The headers include their common part by its installed path. By a relative one, they work
/// wherever they are unpacked.
fn relocate_headers(unpacked: &Path, kernel: &str) -> Result<()> {
    let makefile = unpacked.join(format!("usr/src/linux-headers-{kernel}/Makefile"));
    let text = std::fs::read_to_string(&makefile)
        .context(|| format!("cannot read {}", makefile.display()))?;
    let here = "include $(dir $(lastword $(MAKEFILE_LIST)))../";
    let moved = text.replace("include /usr/src/", here);
    if moved == text {
        return Err(Error::new(format!(
            "{} includes nothing by path",
            makefile.display()
        )));
    }
    write(&makefile, &moved)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = folder
        .read_dir()
        .context(|| format!("cannot list {}", folder.display()))?;
    entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()
        .context(|| format!("cannot list {}", folder.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_number() {
        assert!(numbers("6.1.0-9-amd64") < numbers("6.1.0-10-amd64"));
        assert_eq!(numbers("6.1.0-56-amd64"), [6, 1, 0, 56, 64]);
    }
}
