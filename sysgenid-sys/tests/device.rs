// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be said of the device functions without the device. With it, see `conformance/`.
#![cfg(target_os = "linux")]

use std::fs::{File, OpenOptions};
use std::io::Read;

use sysgenid_sys::abi::Dialect;
use sysgenid_sys::{Errno, device};

#[test]
fn detection_writes_nothing_to_what_is_not_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    std::fs::write(&path, b"untouched").unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();

    assert_eq!(device::detect_dialect(&file), Err(Errno::NODEV));

    let mut content = String::new();
    File::open(&path)
        .unwrap()
        .read_to_string(&mut content)
        .unwrap();
    assert_eq!(content, "untouched");
}

#[test]
fn detection_refuses_other_devices() {
    let null = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    assert_eq!(device::detect_dialect(&null), Err(Errno::NODEV));
}

#[test]
fn no_ioctl_is_issued_under_another_dialects_number() {
    // The kernel would answer ENOTTY.
    let null = File::open("/dev/null").unwrap();
    for dialect in [Dialect::V4, Dialect::V5] {
        assert_eq!(
            device::set_watcher_tracking(&null, dialect, true),
            Err(Errno::OPNOTSUPP)
        );
    }
    assert_eq!(
        device::wait_watchers(&null, Dialect::V4, 1),
        Err(Errno::OPNOTSUPP)
    );
    assert_eq!(
        device::trigger_gen_update(&null, Dialect::V4, 0),
        Err(Errno::OPNOTSUPP)
    );
}
