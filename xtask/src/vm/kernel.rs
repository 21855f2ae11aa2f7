// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A kernel to boot, and to build the driver for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use super::apt::Archive;
use super::bzimage;
use super::debian::{Folder, Selection, libraries, loader};
use super::series::{self, Series};
use super::tools::Tools;
use crate::command;
use crate::error::{Context, Error, Result};

const RECIPE: &str = "1";

pub(crate) struct Kernel {
    /// What messages and folders call it: the name of its series.
    pub(crate) name: String,
    /// The release, as `uname -r` says it in the guest.
    pub(crate) release: String,
    /// The image, unpacked.
    pub(crate) vmlinux: PathBuf,
    /// Where the kernel's own build has to be started: its headers, or its build folder.
    pub(crate) headers: PathBuf,
    /// Its modules, if it has any.
    #[allow(dead_code, reason = "for guests that need more than the driver")]
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
            archive: series.archive,
        };
        let finish = |unpacked: &Path, release: &str| {
            bzimage::unpack(
                &unpacked.join(format!("boot/vmlinuz-{release}")),
                tools,
                &unpacked.join("vmlinux"),
            )?;
            let headers = unpacked.join(headers(release));
            relocate_headers(&headers, &folder.path)?;
            let (loader, libraries) = (loader(unpacked)?, libraries(&folder.path));
            let loader = folder
                .path
                .join(loader.strip_prefix(unpacked).unwrap_or(&loader));
            // Links to folders of the tools, which are elsewhere.
            for link in ["scripts", "tools"] {
                relocate_programs(tools, &headers.join(link), &loader, &libraries)?;
            }
            Ok(())
        };
        let release = folder.open(refresh, |archive| select(series, archive), finish)?;
        let root = &folder.path;
        Ok(Self {
            name: series.name.to_owned(),
            vmlinux: root.join("vmlinux"),
            headers: root.join(headers(&release)),
            modules: root.join("lib/modules").join(&release),
            release,
        })
    }
}

fn headers(release: &str) -> String {
    format!("usr/src/linux-headers-{release}")
}

/// The newest release whose image and headers are both there, with all that they are made of.
fn select(series: &Series, archive: &Archive) -> Result<Selection> {
    let prefix = format!("linux-headers-{}", series.prefix);
    let names = archive.names(&prefix)?;
    let mut releases: Vec<_> = names
        .iter()
        .filter_map(|name| name.strip_prefix("linux-headers-"))
        .filter_map(|release| Some((release, series.base(release)?)))
        .filter(|(release, _)| archive.has(&format!("linux-image-{release}")))
        .collect();
    releases.sort_by_key(|(release, _)| series::numbers(release));
    let (release, base) = releases.pop().context(|| {
        let (prefix, flavour) = (series.prefix, series.flavour);
        format!(
            "apt has no linux-image-{prefix}*{flavour} with headers. {}",
            archive.needs
        )
    })?;

    let mut packages = vec![
        format!("linux-headers-{release}"),
        format!("linux-image-{release}"),
    ];
    // From 7.0 on the image is several packages. The tools have the series in their name, or the
    // release.
    let parts = archive.direct_dependencies(&packages)?;
    let kbuild = |name: &&String| name.starts_with("linux-kbuild-");
    if let Some(kbuild) = parts.iter().find(kbuild) {
        packages.extend(archive.all_dependencies(&[kbuild])?);
    }
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
