// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A guest's memory as a file: what is at an offset of the one is at that address of the other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::qemu::MEMORY_MIB;
use crate::error::{Context, Result};

/// The file. Removed when it is dropped, because it is large.
pub(crate) struct Ram {
    file: File,
    path: PathBuf,
}

impl Ram {
    /// Memory of a machine that has not been started yet.
    pub(crate) fn create(path: PathBuf) -> Result<Self> {
        let cannot = || format!("cannot create {}", path.display());
        // A machine that was killed may have left one.
        if path.exists() {
            std::fs::remove_file(&path).context(cannot)?;
        }
        let file = File::create_new(&path).context(cannot)?;
        file.set_len(MEMORY_MIB << 20).context(cannot)?;
        Self::open(path)
    }

    /// The same contents, for another machine.
    pub(crate) fn copy_to(&self, path: PathBuf) -> Result<Self> {
        std::fs::copy(&self.path, &path)
            .context(|| format!("cannot copy the guest's memory to {}", path.display()))?;
        Self::open(path)
    }

    fn open(path: PathBuf) -> Result<Self> {
        let file = File::options().read(true).write(true).open(&path);
        let file = file.context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { file, path })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn store_u32(&self, address: u64, value: u32) -> Result<()> {
        self.store(address, &value.to_le_bytes())
    }

    pub(crate) fn store_u64(&self, address: u64, value: u64) -> Result<()> {
        self.store(address, &value.to_le_bytes())
    }

    pub(crate) fn load_u32(&self, address: u64) -> Result<u32> {
        self.load(address).map(u32::from_le_bytes)
    }

    pub(crate) fn load_u64(&self, address: u64) -> Result<u64> {
        self.load(address).map(u64::from_le_bytes)
    }

    /// A hypervisor stores a word at once. This need not, and a guest that runs could see a part. The
    /// guests here stand still, wait to be answered, or get a number that differs in one byte.
    pub(crate) fn store(&self, address: u64, bytes: &[u8]) -> Result<()> {
        self.file
            .write_all_at(bytes, address)
            .context(|| "cannot write to the guest's memory")
    }

    fn load<const N: usize>(&self, address: u64) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.file
            .read_exact_at(&mut bytes, address)
            .context(|| "cannot read the guest's memory")?;
        Ok(bytes)
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
