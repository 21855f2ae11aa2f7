// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A whole Debian for a guest, as a folder: with systemd, a compiler, DKMS and a kernel's headers.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::apt::Apt;
use super::debian::{Folder, Selection};
use super::{Kernel, Vm};
use crate::error::{Context, Result};

const RECIPE: &str = "1";

/// What every Debian has, as a pattern of apt's, and what an administrator installs.
const PACKAGES: [&str; 6] = ["?essential", "dkms", "kmod", "openssl", "systemd", "udev"];

/// What nobody reads there, and the guest's memory is too dear for.
const LEFT_OUT: [&str; 5] = ["bash-completion", "doc", "i18n", "locale", "man"];

/// Opens the root of a system that can build modules for the kernel, and fills it first if it is
/// not there.
pub(crate) fn open(vm: &Vm, kernel: &Kernel) -> Result<PathBuf> {
    let folder = Folder {
        path: vm.dir.join("systems").join(&kernel.name),
        recipe: RECIPE,
        apt: Apt::new(&vm.dir, kernel.archive)?,
    };
    let headers = format!("linux-headers-{}", kernel.release);
    let select = |apt: &Apt| {
        let mut wanted = vec![headers.as_str()];
        wanted.extend(PACKAGES);
        let mut packages = apt.all_dependencies(&wanted)?;
        // The headers of some kernels ask for the image. It is not booted from here.
        packages.retain(|name| !name.starts_with("linux-image-"));
        Ok(Selection {
            version: kernel.release.clone(),
            packages,
        })
    };
    let release = folder.open(vm.refresh, select, configure)?;
    if release != kernel.release {
        folder.open(true, select, configure)?;
    }
    Ok(folder.path)
}

/// Does what the packages' own scripts would have done, as far as it matters here.
fn configure(root: &Path, _: &str) -> Result<()> {
    for name in LEFT_OUT {
        let path = root.join("usr/share").join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path)
                .context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    let awk = root.join("usr/bin/awk");
    symlink("mawk", &awk).context(|| format!("cannot create {}", awk.display()))?;
    for name in ["passwd", "group"] {
        let master = root.join(format!("usr/share/base-passwd/{name}.master"));
        std::fs::copy(&master, root.join("etc").join(name))
            .context(|| format!("cannot copy {}", master.display()))?;
    }
    Ok(())
}
