// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Builds the driver, from a copy: the source folder stays free of artefacts and of faults.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Kernel, Vm};
use crate::command;
use crate::error::{Context, Error, Result};

/// Modules that are ready to load.
pub(crate) struct Driver {
    pub(crate) module: PathBuf,
    /// The one that shows the hypervisor's own counter.
    pub(crate) counter: PathBuf,
}

/// A way to build the driver.
pub(crate) struct Variant {
    name: &'static str,
    /// Modules of `xtask/guest` that are built with it, for it or against it.
    pub(crate) modules: &'static [&'static str],
    /// What `make` is told besides.
    arguments: &'static [&'static str],
    /// Whether the kernel's headers have a `linux/sysgenid.h`. Nothing may include it.
    ships_a_header: bool,
}

impl Variant {
    pub(crate) const PLAIN: Self = Self {
        name: "shipped",
        modules: &[],
        arguments: &[],
        ships_a_header: false,
    };

    /// With restores that a test module announces in hard interrupt context, which the kernel does
    /// only on machines with a device tree.
    pub(crate) const IN_HARD_IRQ: Self = Self {
        name: "in-hard-irq",
        modules: &["announcer"],
        arguments: &[
            "KCFLAGS=-Dregister_random_vmfork_notifier=announcer_register_random_vmfork_notifier \
             -Dunregister_random_vmfork_notifier=announcer_unregister_random_vmfork_notifier",
        ],
        ships_a_header: false,
    };

    /// As for a kernel that has no driver of its own for the vmgenid device.
    pub(crate) const ACPI: Self = Self {
        name: "acpi",
        modules: &[],
        arguments: &["CONFIG_VMGENID="],
        ships_a_header: false,
    };

    /// The same, and that may ignore a request to reseed.
    pub(crate) const UNHEARD: Self = Self {
        name: "unheard",
        modules: &[],
        arguments: &["CONFIG_VMGENID=", "reseeds="],
        ships_a_header: false,
    };

    /// As for a kernel that has a driver of this name, as Amazon's have, and its header.
    pub(crate) const SHIPPED_HEADER: Self = Self {
        name: "shipped-header",
        modules: &[],
        arguments: &[],
        ships_a_header: true,
    };
}

impl Driver {
    /// Builds the driver for a kernel, with every warning that the kernel's build knows, and accepts
    /// none.
    ///
    /// With `fault`, a patch is applied to the copy first.
    pub(crate) fn build(vm: &Vm, kernel: &Kernel, fault: Option<&Path>) -> Result<Self> {
        Self::build_variant(vm, kernel, fault, &Variant::PLAIN)
    }

    pub(crate) fn build_variant(
        vm: &Vm,
        kernel: &Kernel,
        fault: Option<&Path>,
        variant: &Variant,
    ) -> Result<Self> {
        super::guest::check_compiler()?;
        let name = fault
            .and_then(Path::file_stem)
            .unwrap_or(variant.name.as_ref());
        let dir = vm.dir.join("driver").join(&kernel.name).join(name);
        copy(vm, fault, &dir)?;
        for module in variant.modules {
            add_module(vm, module, &dir)?;
        }

        let mut make = Command::new("make");
        make.arg("-C").arg(&kernel.headers);
        make.arg(format!("M={}", dir.display()));
        // Not by C=2: for that, Debian's headers of 7.x lack a script.
        make.args(["W=1", "KBUILD_CHECKSRC=2", "modules"]);
        make.arg(format!("CHECK={}", vm.tools.sparse().display()));
        make.arg(format!("CF={}", kernel.sparse));
        let mut compiler = kernel
            .compiler
            .as_ref()
            .map(|path| path.display().to_string());
        if variant.ships_a_header {
            let headers = ship_a_header(&dir)?;
            let name = compiler.unwrap_or_else(|| "gcc".into());
            // Searched before the kernel's headers.
            compiler = Some(format!("{name} -I{}", headers.display()));
        }
        if let Some(compiler) = compiler {
            make.arg(format!("CC={compiler}"));
        }
        make.args(variant.arguments);
        // This machine has no pahole, and nothing here reads the types that it would add.
        make.arg("CONFIG_DEBUG_INFO_BTF_MODULES=");
        // Warnings are looked for in English.
        make.env("LC_ALL", "C").env_remove("MAKEFLAGS");
        let built = make.output().context(|| "cannot run make")?;
        let mut log = String::from_utf8_lossy(&built.stdout).into_owned();
        log.push_str(&String::from_utf8_lossy(&built.stderr));

        let fault = if !built.status.success() {
            Some("does not build")
        } else if log.lines().any(is_warning) {
            Some("builds with warnings")
        } else if !log.contains("  CHECK   ") {
            Some("was built without sparse")
        } else {
            None
        };
        if let Some(fault) = fault {
            return Err(Error::new(format!(
                "the driver {fault} for {}:\n{log}",
                kernel.release
            )));
        }
        Ok(Self {
            module: dir.join("sysgenid.ko"),
            counter: dir.join("vmgenid_counter.ko"),
        })
    }
}

/// Makes a directory of headers as of a kernel that ships one for this device.
fn ship_a_header(dir: &Path) -> Result<PathBuf> {
    let headers = dir.join("shipped");
    let header = headers.join("linux/sysgenid.h");
    let text = "#error \"this is the header of another driver\"\n";
    let made =
        std::fs::create_dir_all(headers.join("linux")).and_then(|()| std::fs::write(&header, text));
    made.context(|| format!("cannot make {}", header.display()))?;
    Ok(headers)
}

/// Copies the driver's sources to a folder, which is returned, and applies a patch to the copy.
pub(crate) fn copy(vm: &Vm, fault: Option<&Path>, dir: &Path) -> Result<PathBuf> {
    command::fresh_dir(dir)?;
    command::copy_dir(&vm.workspace.root.join("driver"), dir)?;
    if let Some(fault) = fault {
        let mut patch = Command::new(vm.tools.busybox());
        patch
            .args(["patch", "-p1", "-i"])
            .arg(fault)
            .current_dir(dir);
        command::output(&mut patch)?;
    }
    Ok(dir.to_owned())
}

/// Adds a module of `xtask/guest` to what is built.
fn add_module(vm: &Vm, name: &str, dir: &Path) -> Result<()> {
    let source = format!("{name}.c");
    let from = vm.workspace.root.join("xtask/guest").join(&source);
    std::fs::copy(&from, dir.join(&source))
        .context(|| format!("cannot copy {}", from.display()))?;
    let path = dir.join("Kbuild");
    let cannot = || format!("cannot add {name} to {}", path.display());
    let mut text = std::fs::read_to_string(&path).context(cannot)?;
    text.push_str(&format!("obj-m += {name}.o\n"));
    std::fs::write(&path, text).context(cannot)
}

/// A warning of the compiler, sparse or modpost; sparse also prints errors, and the build goes on.
/// That the kernel was built with other tools than this machine's says nothing about the driver.
pub(crate) fn is_warning(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    let is_marked = ["warning:", "error:"]
        .iter()
        .any(|mark| line.contains(mark));
    is_marked && !line.contains("differs from the one used to build")
}

#[cfg(test)]
mod tests {
    use super::is_warning;

    #[test]
    fn warnings_of_all_three_tools_count() {
        assert!(is_warning(
            "sysgenid.c:42:9: warning: unused variable 'ret' [-Wunused-variable]"
        ));
        assert!(is_warning(
            "sysgenid.c:7:5: warning: symbol 'lock' was not declared."
        ));
        assert!(is_warning("sysgenid.c:8:1: error: bad constant expression"));
        assert!(is_warning(
            "WARNING: modpost: missing MODULE_LICENSE() in sysgenid.o"
        ));
        assert!(!is_warning("  CC [M]  sysgenid.o"));
        assert!(!is_warning(
            "warning: the compiler differs from the one used to build the kernel"
        ));
    }
}
