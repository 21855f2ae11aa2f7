// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the guests consist of: the driver, an interpreter, the package as it is installed, and
//! scripts.

use std::path::PathBuf;

use super::packages;
use super::root::Root;
use crate::error::Result;
use crate::vm::initramfs::Initramfs;
use crate::vm::subject::Dialect;
use crate::vm::{Driver, Kernel, Vm, guest};

pub(super) struct System<'a> {
    pub(super) vm: &'a Vm,
    pub(super) kernel: &'a Kernel,
    pub(super) driver: Driver,
    pub(super) root: Root,
    package: PathBuf,
}

impl<'a> System<'a> {
    pub(super) fn new(vm: &'a Vm, kernel: &'a Kernel) -> Result<Self> {
        let root = Root::open(vm)?;
        Ok(Self {
            vm,
            kernel,
            driver: Driver::build(vm, kernel, None)?,
            package: packages::package(vm, &root)?,
            root,
        })
    }

    /// A root that begins with a script of `xtask/guest`.
    pub(super) fn image(&self, script: &str, dialect: Dialect) -> Result<Initramfs> {
        let mut image = guest::image(self.vm, script)?;
        self.root.add_to(&mut image)?;
        image.add_folder("package/", &self.package)?;
        let scripts = self.vm.workspace.root.join("xtask/guest/python");
        image.add_folder("python/", &scripts)?;
        image.add_file("sysgenid.ko", &self.driver.module)?;
        image.add_text("abi", dialect.abi());
        Ok(image)
    }
}
