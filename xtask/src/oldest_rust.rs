// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The oldest Rust that the published crates promise to build with: Debian 13's, unpacked and started
//! through the C library that it came with. It builds for Arm as well, for which the machine's own Rust
//! has no standard library.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::vm::apt::{self, Apt};
use crate::vm::debian::{Folder, Selection, libraries, loader};

pub(crate) const VERSION: &str = "1.85";

/// Changes when the packages do.
const RECIPE: &str = "2";

/// The compiler, its standard library, also for Arm, and what both are linked with. By name, because rustc's own
/// dependencies include a whole C compiler.
const PACKAGES: [&str; 19] = [
    "rustc",
    "libstd-rust-dev:arm64",
    "libstd-rust-1.85",
    "libstd-rust-dev",
    "libllvm19",
    "libc6",
    "libgcc-s1",
    "libstdc++6",
    "zlib1g",
    "libffi8",
    "libedit2",
    "libxml2",
    "libz3-4",
    "libzstd1",
    "libtinfo6",
    "libbsd0",
    "libmd0",
    "libicu76",
    "liblzma5",
];

/// Unpacks the compiler if it is not there, and returns a script that starts it.
pub(crate) fn compiler(target: &Path) -> Result<PathBuf> {
    let folder = Folder {
        path: target.join(format!("rust-{VERSION}")),
        recipe: RECIPE,
        apt: Apt::new(target, &apt::TRIXIE_WITH_ARM64)?,
    };
    let select = |apt: &Apt| {
        // With lists that do not exist yet, the download would name each package as missing.
        if !apt.has("rustc") {
            return Err(Error::new(format!("{} has no rustc", apt.archive)));
        }
        Ok(Selection {
            version: format!("Rust {VERSION}"),
            packages: PACKAGES.map(String::from).to_vec(),
        })
    };
    folder.open(false, select, |_, _| Ok(()))?;
    let root = folder.path;
    let script = format!(
        "#!/bin/sh\nexec '{}' --argv0 rustc --library-path '{}' '{}' --sysroot '{}' \"$@\"\n",
        loader(&root)?.display(),
        libraries(&root).display(),
        root.join("usr/bin/rustc").display(),
        root.join("usr").display(),
    );
    let path = root.join("rustc");
    let cannot = || format!("cannot write {}", path.display());
    fs::write(&path, script).context(cannot)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context(cannot)?;
    Ok(path)
}
