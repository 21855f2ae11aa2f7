// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel to boot, and to build the driver for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::apt::{Apt, Archive};
use super::bzimage;
use super::debian::{Folder, Selection, libraries, loader};
use super::series::{self, Series};
use super::subject::Backend;
use super::tools::Tools;
use crate::command;
use crate::error::{Context, Error, Result};

const RECIPE: &str = "2";

pub(crate) struct Kernel {
    /// What messages and folders call it: the name of its series.
    pub(crate) name: String,
    /// The release, as `uname -r` says it in the guest.
    pub(crate) release: String,
    /// Where it comes from.
    pub(crate) archive: &'static Archive,
    /// The image, unpacked.
    pub(crate) vmlinux: PathBuf,
    /// Where the kernel's own build has to be started: its headers, or its build folder.
    pub(crate) headers: PathBuf,
    /// The compiler that the headers are for, unless it is one that the machine has.
    pub(crate) compiler: Option<PathBuf>,
    /// What sparse is told besides.
    pub(crate) sparse: &'static str,
    /// The backends that the driver can have on it, the one with a vmgenid device first.
    pub(crate) backends: &'static [Backend],
    /// Its modules, if it has any.
    pub(crate) modules: PathBuf,
}

impl Kernel {
    /// Opens the cache of the series' newest kernel, and fills it first if it is not there.
    pub(crate) fn open(
        dir: &Path,
        tools: &Tools,
        series: &'static Series,
        refresh: bool,
    ) -> Result<Self> {
        let folder = Folder {
            path: dir.join("kernels").join(series.name),
            recipe: RECIPE,
            apt: Apt::new(dir, series.archive)?,
        };
        let finish = |unpacked: &Path, release: &str| {
            let image = one_of(
                unpacked,
                &[
                    format!("boot/vmlinuz-{release}"),
                    format!("usr/lib/modules/{release}/vmlinuz"),
                ],
            )?;
            bzimage::unpack(&image, tools, &unpacked.join("vmlinux"))?;
            let headers = unpacked.join(headers(release));
            relocate_headers(&headers, &folder.path)?;
            let (loader, libraries) = (loader(unpacked)?, libraries(&folder.path));
            let loader = folder
                .path
                .join(loader.strip_prefix(unpacked).unwrap_or(&loader));
            // The headers' folders are links to those of the tools.
            let folders = ["scripts", "tools"].map(|link| headers.join(link));
            let compiler = ["usr/bin", "usr/lib/gcc", "usr/libexec/gcc"].map(|f| unpacked.join(f));
            for folder in folders.into_iter().chain(compiler) {
                if folder.is_dir() {
                    relocate_programs(tools, &folder, &loader, &libraries)?;
                }
            }
            Ok(())
        };
        let release = folder.open(refresh, |apt| select(series, apt), finish)?;
        let root = &folder.path;
        Ok(Self {
            name: series.name.to_owned(),
            archive: series.archive,
            vmlinux: root.join("vmlinux"),
            headers: root.join(headers(&release)),
            compiler: series
                .compiler
                .map(|name| root.join(format!("usr/bin/x86_64-linux-gnu-{name}"))),
            sparse: series.sparse,
            backends: series.backends,
            modules: one_of(
                root,
                &[
                    format!("lib/modules/{release}"),
                    format!("usr/lib/modules/{release}"),
                ],
            )?,
            release,
        })
    }

    /// The backend of the driver in a machine with a vmgenid device.
    pub(crate) fn backend(&self) -> Backend {
        self.backends.first().copied().unwrap_or(Backend::Trigger)
    }
}

/// Where something is that later Debians have below /usr.
fn one_of(root: &Path, places: &[String]) -> Result<PathBuf> {
    let mut paths = places.iter().map(|place| root.join(place));
    paths
        .find(|path| path.exists())
        .context(|| format!("{} has no {}", root.display(), places.join(" and no ")))
}

fn headers(release: &str) -> String {
    format!("usr/src/linux-headers-{release}")
}

/// The newest release whose image and headers are both there, with all that they are made of.
fn select(series: &Series, apt: &Apt) -> Result<Selection> {
    let prefix = format!("linux-headers-{}", series.prefix);
    let names = apt.names(&prefix)?;
    let mut releases: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-headers-"))
        .filter_map(|release| Some((release, series.base(release)?)))
        .filter(|(release, _)| apt.has(&format!("linux-image-{release}")))
        .collect();
    releases.sort_by_key(|(release, _)| series::numbers(release));
    let (release, base) = releases.pop().context(|| {
        let (prefix, flavour) = (series.prefix, series.flavour);
        let archive = apt.archive;
        format!("apt knows no linux-image-{prefix}*{flavour} with headers in {archive}")
    })?;

    let mut packages = vec![
        format!("linux-headers-{release}"),
        format!("linux-image-{release}"),
    ];
    // From 7.0 on the image is several packages. The tools have the series in their name, or the
    // release.
    let parts = apt.direct_dependencies(&packages)?;
    let kbuild = |name: &&String| name.starts_with("linux-kbuild-");
    let kbuild = parts.iter().find(kbuild).map(String::as_str);
    let programs: Vec<_> = kbuild.into_iter().chain(series.compiler).collect();
    packages.extend(apt.all_dependencies(&programs)?);
    packages.extend(
        parts
            .into_iter()
            .filter(|name| name.contains(base) && !name.ends_with("-unsigned")),
    );
    Ok(Selection {
        version: release.to_owned(),
        packages,
    })
}

/// The headers name each other by their installed paths.
fn relocate_headers(headers: &Path, place: &Path) -> Result<()> {
    let makefile = headers.join("Makefile");
    let text = std::fs::read_to_string(&makefile)
        .context(|| format!("cannot read {}", makefile.display()))?;
    let moved = text.replace("/usr/src/", &format!("{}/usr/src/", place.display()));
    if moved == text {
        return Err(Error::new(format!(
            "{} includes nothing by path",
            makefile.display()
        )));
    }
    std::fs::write(&makefile, moved).context(|| format!("cannot write {}", makefile.display()))
}

/// Makes all programs below a folder find the C library that they came with: they start each other,
/// so there is nobody else to tell them.
fn relocate_programs(tools: &Tools, folder: &Path, loader: &Path, libraries: &OsStr) -> Result<()> {
    const INTERPRETER: &[u8] = b"/lib64/ld-linux-x86-64.so.2\0";

    let cannot = || format!("cannot read {}", folder.display());
    for entry in folder.read_dir().context(cannot)? {
        let entry = entry.context(cannot)?;
        let (path, kind) = (entry.path(), entry.file_type().context(cannot)?);
        if kind.is_dir() {
            relocate_programs(tools, &path, loader, libraries)?;
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).context(cannot)?;
            let is_program = bytes.starts_with(b"\x7fELF")
                && bytes.windows(INTERPRETER.len()).any(|w| w == INTERPRETER);
            if is_program {
                let mut patchelf = tools.program("patchelf")?;
                patchelf.arg("--set-interpreter").arg(loader);
                // Not the newer RUNPATH, which libraries of libraries are not searched in.
                patchelf
                    .arg("--force-rpath")
                    .arg("--set-rpath")
                    .arg(libraries);
                command::run(patchelf.arg(path))?;
            }
        }
    }
    Ok(())
}
