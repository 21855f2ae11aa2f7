// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a thread does with mappings.

use rustix::fd::AsFd;
use rustix::io::Errno;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags};
use sysgenid_sys::abi::PAGE_LEN;

use super::worker::Worker;
use crate::raw::{Mapping, Request};

pub(super) fn map(worker: &mut Worker<'_>) -> bool {
    let Some(file) = worker.file() else {
        return false;
    };
    let request = Request {
        flags: if worker.random.once_in(4) {
            MapFlags::PRIVATE
        } else {
            MapFlags::SHARED
        },
        ..Request::default()
    };
    let mapping = worker.check("mmap", Mapping::new(&file, request), &[]);
    if let Some(mapping) = mapping {
        let replaced = worker.mapping_slot().replace(mapping);
        drop(replaced);
    }
    true
}

pub(super) fn unmap(worker: &mut Worker<'_>) -> bool {
    let mapping = worker.mapping_slot().take();
    mapping.is_some()
}

pub(super) fn load(worker: &mut Worker<'_>) -> bool {
    let seen = worker.mapping_slot().as_ref().map(Mapping::load);
    if let Some(generation) = seen {
        worker.saw(generation);
    }
    seen.is_some()
}

/// Gives the page back, so that the next load has to fetch it again.
pub(super) fn discard(worker: &mut Worker<'_>) -> bool {
    let discarded = worker.mapping_slot().as_ref().map(Mapping::discard);
    discarded.is_some_and(|result| worker.check("madvise", result, &[]).is_some())
}

pub(super) fn remap(worker: &mut Worker<'_>) -> bool {
    let mut slot = worker.mapping_slot();
    let Some(mapping) = slot.as_mut() else {
        return false;
    };
    if mapping.resize(2 * PAGE_LEN) != Err(Errno::FAULT) {
        worker.shared.fault("mremap beyond the page".to_owned());
    }
    worker.check("mremap", mapping.relocate(), &[]);
    true
}

pub(super) fn protect(worker: &mut Worker<'_>) -> bool {
    let slot = worker.mapping_slot();
    let Some(mapping) = slot.as_ref() else {
        return false;
    };
    let writable = MprotectFlags::READ | MprotectFlags::WRITE;
    if mapping.protect(writable) != Err(Errno::ACCESS) {
        worker.shared.fault("mprotect to writable".to_owned());
    }
    worker.check("mprotect", mapping.protect(MprotectFlags::empty()), &[]);
    // Before anybody loads from it again.
    worker.check("mprotect", mapping.protect(MprotectFlags::READ), &[]);
    true
}

/// A mapping that must be refused.
pub(super) fn refused(worker: &mut Worker<'_>, file: impl AsFd) -> Result<(), Errno> {
    let ordinary = Request::default();
    let request = match worker.random.below(3) {
        0 => Request {
            length: PAGE_LEN + 1,
            ..ordinary
        },
        1 => Request {
            offset: PAGE_LEN as u64,
            ..ordinary
        },
        _ => Request {
            protection: ProtFlags::READ | ProtFlags::WRITE,
            ..ordinary
        },
    };
    Mapping::new(file, request).map(drop)
}
