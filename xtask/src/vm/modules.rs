// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The kernel's own modules, for guests that need more than the driver.

use std::path::{Path, PathBuf};

use super::initramfs::Initramfs;
use super::{Kernel, Vm};
use crate::command;
use crate::error::{Context, Result};

/// Adds modules and all that they depend on to an image, and returns the names of the files in the
/// order in which they must be loaded. What the kernel has built in is not among them.
pub(crate) fn add(
    vm: &Vm,
    kernel: &Kernel,
    names: &[&str],
    image: &mut Initramfs,
) -> Result<Vec<String>> {
    let dir = vm.dir.join("run/modules").join(&kernel.name);
    command::fresh_dir(&dir)?;
    // A kernel that was built here has no such list, and all that is asked of it as modules.
    let built_in =
        std::fs::read_to_string(kernel.modules.join("modules.builtin")).unwrap_or_default();
    let mut loaded = Vec::new();
    let resolver = Resolver {
        vm,
        kernel,
        files: command::files(&kernel.modules)?,
        built_in: built_in.lines().map(PathBuf::from).collect(),
        dir,
    };
    for name in names {
        resolver.resolve(name, &mut loaded)?;
    }
    for module in &loaded {
        image.add_file(module, &resolver.dir.join(module))?;
    }
    Ok(loaded)
}

struct Resolver<'a> {
    vm: &'a Vm,
    kernel: &'a Kernel,
    files: Vec<PathBuf>,
    /// Those that are part of the kernel itself.
    built_in: Vec<PathBuf>,
    dir: PathBuf,
}

impl Resolver<'_> {
    /// What a module depends on comes before it.
    fn resolve(&self, name: &str, loaded: &mut Vec<String>) -> Result<()> {
        let module = format!("{name}.ko");
        if loaded.contains(&module) || self.built_in.iter().any(|file| is_module(file, name)) {
            return Ok(());
        }
        let file = self
            .files
            .iter()
            .find(|file| is_module(file, name))
            .context(|| format!("the kernel {} has no module {name}", self.kernel.release))?;
        let unpacked = self.dir.join(&module);
        self.unpack(file, &unpacked)?;
        let bytes =
            std::fs::read(&unpacked).context(|| format!("cannot read {}", unpacked.display()))?;
        for dependency in dependencies(&bytes) {
            self.resolve(&dependency, loaded)?;
        }
        loaded.push(module);
        Ok(())
    }

    fn unpack(&self, file: &Path, to: &Path) -> Result<()> {
        let cannot = || format!("cannot unpack {}", file.display());
        if file.extension().is_some_and(|extension| extension == "ko") {
            return std::fs::copy(file, to).map(drop).context(cannot);
        }
        let unpacked = std::fs::File::create(to).context(cannot)?;
        let mut xz = self.vm.tools.program("xz")?;
        command::run(xz.arg("-dc").arg(file).stdout(unpacked))
    }
}

/// Names are written with either dash.
fn is_module(file: &Path, name: &str) -> bool {
    let file = file.file_name().unwrap_or_default().to_string_lossy();
    let stem = file.trim_end_matches(".xz").strip_suffix(".ko");
    stem.is_some_and(|stem| stem.replace('-', "_") == name.replace('-', "_"))
}

/// The names in a module's `.modinfo`, which consists of strings that end with a zero.
fn dependencies(module: &[u8]) -> Vec<String> {
    let entry = module
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="))
        .unwrap_or_default();
    String::from_utf8_lossy(entry)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_modinfo() {
        let module = b"\x7fELF\0license=GPL\0depends=nvme-core,t10-pi\0name=nvme\0";
        assert_eq!(dependencies(module), ["nvme-core", "t10-pi"]);
        assert!(dependencies(b"depends=\0").is_empty());
        assert!(dependencies(b"").is_empty());
    }

    #[test]
    fn a_module_is_found_packed_and_with_either_dash() {
        assert!(is_module(Path::new("a/nvme-core.ko.xz"), "nvme_core"));
        assert!(is_module(Path::new("a/ptp_vmclock.ko"), "ptp_vmclock"));
        assert!(!is_module(Path::new("a/nvme-core.ko"), "nvme"));
    }
}
