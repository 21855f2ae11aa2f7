// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Mappings of any kind, which the typed page of the SDK does not make.

use std::ffi::c_void;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use rustix::io::Errno;
use rustix::mm::{
    Advice, MapFlags, MprotectFlags, MremapFlags, ProtFlags, madvise, mmap, mmap_anonymous,
    mprotect, mremap, mremap_fixed, munmap,
};

/// What to map, and how. The default is what a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) length: usize,
    pub(crate) protection: ProtFlags,
    pub(crate) flags: MapFlags,
    pub(crate) offset: u64,
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
pub(crate) struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

// SAFETY: The mapping belongs to the process, and every access is atomic.
unsafe impl Send for Mapping {}
// SAFETY: As above; what moves or resizes it takes it exclusively.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(crate) fn new(file: impl AsFd, request: Request) -> Result<Self, Errno> {
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
    pub(crate) fn load(&self) -> u32 {
        // SAFETY: The mapping starts on a page boundary, is at least a page long in memory, and
        // lives as long as `self`. All writers of the counter are atomic.
        let counter = unsafe { AtomicU32::from_ptr(self.start.as_ptr().cast()) };
        counter.load(Ordering::Relaxed)
    }

    /// The aligned word at `offset`, which must be within the page.
    pub(crate) fn load_u32(&self, offset: usize) -> u32 {
        // SAFETY: As above; `word` checks the offset.
        let word = unsafe { AtomicU32::from_ptr(self.word(offset)) };
        word.load(Ordering::Relaxed)
    }

    /// The aligned double word at `offset`, which must be within the page.
    pub(crate) fn load_u64(&self, offset: usize) -> u64 {
        // SAFETY: As above.
        let word = unsafe { AtomicU64::from_ptr(self.word(offset)) };
        word.load(Ordering::Relaxed)
    }

    /// Stores there, which needs a mapping for writing.
    pub(crate) fn store_u64(&self, offset: usize, value: u64) {
        // SAFETY: As above.
        let word = unsafe { AtomicU64::from_ptr(self.word(offset)) };
        word.store(value, Ordering::Relaxed);
    }

    fn word<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= sysgenid_sys::abi::PAGE_LEN);
        assert_eq!(offset % align_of::<T>(), 0);
        // SAFETY: The offset is within the page.
        unsafe { self.start.as_ptr().byte_add(offset).cast() }
    }

    /// The byte at `offset`, which must be within the page.
    pub(crate) fn byte(&self, offset: usize) -> u8 {
        assert!(offset < sysgenid_sys::abi::PAGE_LEN);
        // SAFETY: As above; the offset was checked.
        let byte = unsafe { AtomicU8::from_ptr(self.start.as_ptr().cast::<u8>().add(offset)) };
        byte.load(Ordering::Relaxed)
    }

    /// Asks for another length, at any address.
    pub(crate) fn resize(&mut self, length: usize) -> Result<(), Errno> {
        // SAFETY: The range is this mapping, which nothing refers to but `self`; where it goes is
        // the kernel's choice.
        let start = unsafe {
            mremap(
                self.start.as_ptr(),
                self.length,
                length,
                MremapFlags::MAYMOVE,
            )
        }?;
        self.start = NonNull::new(start).expect("the kernel maps nothing at address 0");
        self.length = length;
        Ok(())
    }

    /// Moves it to another address.
    pub(crate) fn relocate(&mut self) -> Result<(), Errno> {
        // SAFETY: The kernel chooses the address, so no memory in use is replaced.
        let place = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                self.length,
                ProtFlags::empty(),
                MapFlags::PRIVATE,
            )
        }?;
        // SAFETY: The old range is this mapping and the new one was just made for it; nothing
        // refers to either.
        let start = unsafe {
            mremap_fixed(
                self.start.as_ptr(),
                self.length,
                self.length,
                MremapFlags::MAYMOVE,
                place,
            )
        }?;
        self.start = NonNull::new(start).expect("the kernel maps nothing at address 0");
        Ok(())
    }

    /// Asks for a second mapping of the same pages, of this length, without the file.
    pub(crate) fn twin(&self, length: usize) -> Result<Self, Errno> {
        // SAFETY: With an old length of 0 the mapping itself stays as it is.
        let start = unsafe { mremap(self.start.as_ptr(), 0, length, MremapFlags::MAYMOVE) }?;
        Ok(Self {
            start: NonNull::new(start).expect("the kernel maps nothing at address 0"),
            length,
        })
    }

    /// Asks for the page to be dropped.
    pub(crate) fn discard(&self) -> Result<(), Errno> {
        // SAFETY: The range is this mapping, whose contents are not the process's.
        unsafe { madvise(self.start.as_ptr(), self.length, Advice::LinuxDontNeed) }
    }

    /// Whether the page is mapped already, so that reading it is not a fault.
    pub(crate) fn is_resident(&self) -> bool {
        let mut pages = [0_u8];
        // SAFETY: The range is this mapping, of at most a page, for which one byte is written.
        let asked = unsafe { libc::mincore(self.start.as_ptr(), self.length, pages.as_mut_ptr()) };
        assert_eq!(asked, 0, "mincore: {}", io::Error::last_os_error());
        pages[0] & 1 == 1
    }

    /// The flags that the kernel shows of it, each of two letters.
    pub(crate) fn vm_flags(&self) -> Vec<String> {
        let text = fs::read_to_string("/proc/self/smaps").expect("the mappings can be read");
        let begin = format!("{:x}-", self.start.as_ptr().addr());
        let own = text.lines().skip_while(|line| !line.starts_with(&begin));
        let flags = own
            .into_iter()
            .find_map(|line| line.strip_prefix("VmFlags:"));
        let flags = flags.expect("a mapping has flags");
        flags.split_whitespace().map(str::to_owned).collect()
    }

    /// Asks for another protection.
    pub(crate) fn protect(&self, protection: MprotectFlags) -> Result<(), Errno> {
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
