// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mappings of any kind, which the typed page of the SDK does not make.

use std::ffi::c_void;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};

/// What to map, and how. The default is what a client does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) length: usize,
    pub(super) protection: ProtFlags,
    pub(super) flags: MapFlags,
    pub(super) offset: u64,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            length: sysgenid_sys::abi::COUNTER_LEN,
            protection: ProtFlags::READ,
            flags: MapFlags::SHARED,
            offset: 0,
        }
    }
}

/// A mapping of the device. Unmapped when it is dropped.
pub(super) struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: The mapping belongs to the process, and every access is atomic.
unsafe impl Send for Mapping {}

impl Mapping {
    pub(super) fn new(file: impl AsFd, request: Request) -> Result<Self, Errno> {
        let Request {
            length,
            protection,
            flags,
            offset,
        } = request;
        // SAFETY: The kernel chooses the address (no MAP_FIXED), so no memory in use is replaced.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                protection,
                flags,
                file,
                offset,
            )
        }?;
        let start = NonNull::new(start).expect("the kernel maps nothing at address 0");
        Ok(Self { start, length })
    }

    /// The counter.
    pub(super) fn load(&self) -> u32 {
        // SAFETY: The mapping starts on a page boundary, is at least a page long in memory, and
        // lives as long as `self`. All writers of the counter are atomic.
        let counter = unsafe { AtomicU32::from_ptr(self.start.as_ptr().cast()) };
        counter.load(Ordering::Relaxed)
    }

    /// The byte at `offset`, which must be within the page.
    pub(super) fn byte(&self, offset: usize) -> u8 {
        assert!(offset < sysgenid_sys::abi::PAGE_LEN);
        // SAFETY: As above; the offset was checked.
        let byte = unsafe { AtomicU8::from_ptr(self.start.as_ptr().cast::<u8>().add(offset)) };
        byte.load(Ordering::Relaxed)
    }

    /// Asks for another protection.
    pub(super) fn protect(&self, protection: MprotectFlags) -> Result<(), Errno> {
        // SAFETY: The range is this mapping, which nothing refers to but `self`.
        unsafe { mprotect(self.start.as_ptr(), self.length, protection) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: The range is this mapping, which nothing refers to any more.
        let unmapped = unsafe { munmap(self.start.as_ptr(), self.length) };
        debug_assert_eq!(unmapped, Ok(()));
    }
}
