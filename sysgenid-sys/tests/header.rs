// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The numbers of this crate are those that a C compiler reads from the driver's header.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::process::Command;

use sysgenid_sys::abi;

#[test]
fn opcodes_are_those_of_the_drivers_header() {
    let folder = tempfile::tempdir().unwrap();
    let driver = Path::new(env!("CARGO_MANIFEST_DIR")).join("../driver/include/uapi");
    let expected = [
        ("SYSGENID_SET_WATCHER_TRACKING", abi::SET_WATCHER_TRACKING),
        ("SYSGENID_WAIT_WATCHERS", abi::WAIT_WATCHERS),
        ("SYSGENID_TRIGGER_GEN_UPDATE", abi::TRIGGER_GEN_UPDATE),
        ("SYSGENID_V5_WAIT_WATCHERS", abi::V5_WAIT_WATCHERS),
        ("SYSGENID_V5_FORCE_GEN_UPDATE", abi::V5_FORCE_GEN_UPDATE),
        (
            "SYSGENID_V4_GET_OUTDATED_WATCHERS",
            abi::V4_GET_OUTDATED_WATCHERS,
        ),
    ];

    let prints: String = expected
        .iter()
        .map(|(name, _)| format!("printf(\"{name} %lu\\n\", (unsigned long)({name}));\n"))
        .collect();
    let program = folder.path().join("header.c");
    std::fs::write(
        &program,
        format!("#include <stdio.h>\n#include <linux/sysgenid.h>\nint main(void) {{\n{prints}return 0; }}\n"),
    )
    .unwrap();
    let binary = folder.path().join("header");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-I"])
        .args([&driver, Path::new("-o"), &binary, &program])
        .status()
        .expect("a C compiler named cc is needed; on Debian: apt-get install gcc libc6-dev");
    assert!(compiled.success());

    let output = Command::new(&binary).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let wanted: String = expected
        .iter()
        .map(|(name, opcode)| format!("{name} {opcode}\n"))
        .collect();
    assert_eq!(printed, wanted);
}
