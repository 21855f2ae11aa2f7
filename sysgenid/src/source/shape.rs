// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The shape of a counter page. Any file can be mapped, and its first four bytes are some number, so
//! another file must not pass for a source.

use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, FileType, Stat, StatxAttributes, StatxFlags, fstat, statx};
use rustix::io::pread;
use sysgenid_sys::{Errno, abi};

use super::stat_failed;
use super::trust::{is_own, is_put_by_root, is_roots};
use crate::base::error::{Error, Kind, Result};

/// What every page file is a multiple of, whatever pages the machine has.
pub(super) const PAGE: usize = 4096;

/// How the caller named the file. A page of another user is judged by that.
#[derive(Clone, Copy)]
pub(super) enum Named<'a> {
    /// As the page of this directory, which is open and has this owner.
    InDirectory(&'a OwnedFd, u32),
    /// By its own path.
    Itself(&'a Path),
}

/// Checks that `file` looks like a counter page.
///
/// The check reads the file. A load from a mapping would raise `SIGBUS` if the file were truncated
/// meanwhile.
pub(super) fn check(file: &OwnedFd, named: Named<'_>) -> Result<()> {
    let status = fstat(file).map_err(stat_failed)?;
    if FileType::from_raw_mode(status.st_mode) != FileType::RegularFile {
        return Err(Error::new(Kind::Foreign(
            "not a regular file, and so not a counter page",
        )));
    }
    let (page, length) = read(file)?;
    let after_counter = page.get(abi::COUNTER_LEN..length).unwrap_or_default();
    if after_counter.iter().any(|byte| *byte != 0) {
        return Err(Error::new(Kind::Foreign(
            "not a counter page: more than a counter is in it; name a broker's directory or the \
             page in it",
        )));
    }
    if !is_trusted(file, &status, named) {
        return Err(Error::new(Kind::Foreign(
            "the page belongs to a user other than root and the caller, who could store any number in \
             it; run the broker as root or as this user",
        )));
    }
    // The size may have changed since it was asked for.
    match usize::try_from(status.st_size).unwrap_or_default() {
        size if size.min(length) < PAGE => Err(too_short()),
        size if size % PAGE != 0 => Err(Error::new(Kind::Foreign(
            "not a counter page: its size is not a whole number of pages; name a broker's \
             directory or the page in it",
        ))),
        _ => Ok(()),
    }
}

pub(super) fn too_short() -> Error {
    Error::new(Kind::Broken(
        "too short to be a counter page; a broker that is starting is done in a moment, any other \
         file is not a page",
    ))
}

/// The first page, or less if the file is shorter.
fn read(file: &OwnedFd) -> Result<([u8; PAGE], usize)> {
    let mut page = [0; PAGE];
    let mut length = 0;
    while let Some(rest) = page.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match pread(file, rest, length as u64) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::call("reading the page", errno)),
        }
    }
    Ok((page, length))
}

/// Whether the page belongs to root, to the process's own user, or to a user whom root has chosen.
fn is_trusted(file: &OwnedFd, page: &Stat, named: Named<'_>) -> bool {
    if is_own(page.st_uid) {
        return true;
    }
    // Root may run a broker as another user in that user's directory, or mount a page into a
    // container, where its owner may have another number.
    match named {
        Named::InDirectory(directory, owner) => owner == page.st_uid && is_put_by_root(directory),
        Named::Itself(path) => is_mounted(file) && path.parent().is_some_and(is_roots),
    }
}

/// Whether a file that is open was mounted by itself.
fn is_mounted(file: &OwnedFd) -> bool {
    statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::empty()).is_ok_and(|found| {
        let mounted = StatxAttributes::MOUNT_ROOT;
        found.stx_attributes_mask.contains(mounted) && found.stx_attributes.contains(mounted)
    })
}
