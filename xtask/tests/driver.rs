// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What is said about the driver in several places is the same in all of them.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAGE: &str = "Documentation/virt/sysgenid.rst";

fn driver(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../driver")
        .join(path)
}

fn read(path: &str) -> String {
    let path = driver(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The C files at the top of the driver's folder, in one: what has to do with userspace.
fn sources() -> String {
    let files = fs::read_dir(driver("")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    let is_c = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "c");
    let texts: Vec<_> = paths
        .filter(is_c)
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    texts.concat()
}

/// What stands between `before` and `after` in a line, for each line that has both.
fn between<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    let found = |line: &'a str| Some(line.split_once(before)?.1.split_once(after)?.0);
    text.lines().filter_map(found).collect()
}

/// The modules that Kbuild makes.
fn modules() -> BTreeSet<String> {
    let kbuild = read("Kbuild");
    let objects = kbuild
        .lines()
        .filter(|line| line.starts_with("obj-m"))
        .flat_map(|line| line.split([' ', ',', ')']));
    objects
        .filter_map(|word| word.strip_suffix(".o").map(str::to_owned))
        .collect()
}

#[test]
fn dkms_and_every_module_have_the_version_of_the_workspace() {
    let version = env!("CARGO_PKG_VERSION");
    let conf = read("dkms.conf");
    let dkms = between(&conf, "PACKAGE_VERSION=\"", "\"");
    assert_eq!(dkms, [version].into(), "in driver/dkms.conf");

    let sources = sources();
    let lines: Vec<_> = sources
        .lines()
        .filter(|line| line.starts_with("MODULE_VERSION"))
        .collect();
    assert_eq!(lines.len(), modules().len(), "one for each module");
    for line in lines {
        assert_eq!(line, format!("MODULE_VERSION(\"{version}\");"));
    }
}

#[test]
fn dkms_builds_every_module() {
    let conf = read("dkms.conf");
    let built: BTreeSet<_> = conf
        .lines()
        .filter(|line| line.trim_start().starts_with("BUILT_MODULE_NAME["))
        .filter_map(|line| line.split('"').nth(1))
        .map(str::to_owned)
        .collect();
    let modules = modules();
    let known = ["sysgenid", "vmgenid_counter"].map(str::to_owned);
    assert!(modules.is_superset(&known.into()), "Kbuild was misread");
    assert_eq!(built, modules);
}

#[test]
fn every_attribute_is_documented() {
    let sources = sources();
    let document = read("Documentation/ABI/testing/sysfs-class-misc-sysgenid");
    let documented: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("What:\t\t/sys/class/misc/sysgenid/"))
        .collect();
    let made = between(&sources, "DEVICE_ATTR_RO(", ")");
    assert!(made.contains("generation"), "the sources were misread");
    assert_eq!(documented, made);
}

#[test]
fn every_parameter_and_line_of_fdinfo_is_documented() {
    let (page, sources) = (read(PAGE), sources());
    let parameters = between(&sources, "module_param(", ",");
    assert!(parameters.contains("abi"), "the sources were misread");
    for parameter in parameters {
        assert!(
            page.contains(&format!("\n``{parameter}``\n")),
            "{parameter}"
        );
    }
    let lines = between(&sources, "seq_printf(m, \"", ":");
    assert!(lines.len() >= 3, "the sources were misread");
    for line in lines {
        assert!(page.contains(&format!("\n  {line}:\t")), "{line}");
    }
}

/// The literal blocks of the page that are C.
fn examples(page: &str) -> Vec<String> {
    let blocks = page.split("::\n\n").skip(1);
    let block = |text: &str| -> String {
        let inside = |line: &&str| line.is_empty() || line.starts_with("  ");
        let lines = text.lines().take_while(inside);
        lines.map(|line| format!("{line}\n")).collect()
    };
    blocks
        .map(block)
        .filter(|block| block.starts_with("  static "))
        .collect()
}

#[test]
fn the_examples_of_the_kernels_page_compile() {
    let examples = examples(&read(PAGE));
    assert_eq!(examples.len(), 4, "one for each workflow");
    let headers = [
        "errno.h",
        "fcntl.h",
        "limits.h",
        "linux/sysgenid.h",
        "linux/types.h",
        "poll.h",
        "sys/epoll.h",
        "sys/ioctl.h",
        "sys/mman.h",
        "time.h",
        "unistd.h",
    ];
    let includes = headers.map(|header| format!("#include <{header}>\n"));
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("examples.c");
    fs::write(&program, includes.concat() + &examples.concat()).unwrap();
    let compiled = Command::new("cc")
        .args(["-fsyntax-only", "-Wall", "-Wextra", "-Werror"])
        .args(["-Wno-unused-function", "-I"])
        .args([&driver("include/uapi"), &program])
        .status()
        .expect("a C compiler named cc is needed; on Debian: apt-get install gcc libc6-dev");
    assert!(compiled.success());
}

#[test]
fn every_case_of_what_only_computes_passes() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("pure");
    let compiled = Command::new("cc")
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .args([&program, &driver("tests/pure.c")])
        .status()
        .expect("a C compiler named cc is needed; on Debian: apt-get install gcc libc6-dev");
    assert!(compiled.success());
    let run = Command::new(&program).output().unwrap();
    let report = String::from_utf8(run.stdout).unwrap();
    let (mut lines, mut cases) = (report.lines(), 0);
    assert_eq!(lines.next(), Some("TAP version 14"));
    let planned = lines.next().and_then(|line| line.strip_prefix("1.."));
    for line in lines {
        assert!(line.starts_with("ok "), "{report}");
        cases += 1;
    }
    assert_eq!(planned, Some(cases.to_string().as_str()), "{report}");
    assert!(run.status.success());
}
