// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What can be said of the device functions without the device. With it, see `conformance/`.
#![cfg(target_os = "linux")]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a failed expectation is a failed test"
)]

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;

use sysgenid_sys::Errno;
use sysgenid_sys::device::{Device, Undetected};

fn detect(path: impl AsRef<Path>) -> Undetected {
    let file = OpenOptions::new().read(true).write(true).open(path);
    let file = file.expect("it can be opened");
    Device::detect(file.into()).expect_err("it is not the device")
}

#[test]
fn detection_writes_nothing_to_what_is_not_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("page");
    std::fs::write(&path, b"untouched").unwrap();
    let refused = detect(&path);
    assert_eq!(refused.errno, Errno::NODEV);

    // The descriptor comes back as it was.
    let mut content = String::new();
    std::fs::File::from(refused.watcher)
        .read_to_string(&mut content)
        .unwrap();
    assert_eq!(content, "untouched");
}

#[test]
fn detection_refuses_other_devices() {
    assert_eq!(detect("/dev/null").errno, Errno::NODEV);
    // A misc device, which root may open.
    if rustix::process::geteuid().is_root() && Path::new("/dev/loop-control").exists() {
        assert_eq!(detect("/dev/loop-control").errno, Errno::NODEV);
    }
}
