// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `vm static`: reads the driver with tools, and applies and compiles its patches for the kernel. A
//! tool that prints nothing has found it clean.

use std::path::Path;
use std::process::Command;

use super::super::{Driver, Vm, driver, fault, series};
use super::planted::said;
use super::source::Source;
use crate::command;
use crate::error::{Context, Result};

const FOLDER: &str = "xtask/faults/static";
const REPORTED_BY: &str = "Reported by: ";

/// The kernel's own idea of style, at its strictest.
const CHECKPATCH: [&str; 5] = [
    "--no-tree",
    "--strict",
    "--terse",
    "--no-summary",
    // The list of a uevent's variables is one that the kernel takes as it is.
    "--ignore=STATIC_CONST_CHAR_ARRAY",
];

/// What describes a tracepoint is not written like code, in no header of the kernel's.
const TRACEPOINTS: &str = "--ignore=OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT";

/// Reads the driver with each tool, then plants a blemish for each.
pub(crate) fn run(vm: &Vm) -> Result<bool> {
    let source = Source::open(vm)?;
    let mut is_clean = true;
    for tool in Tool::ALL {
        let dir = driver::copy(vm, None, &vm.dir.join("static").join(tool.name()))?;
        let found = tool.read(vm, &source, &dir, None)?;
        found.iter().for_each(|line| println!("{line}"));
        println!("# {}: {} remarks", tool.name(), found.len());
        is_clean &= found.is_empty();
    }
    is_clean &= upstream(vm, &source)?;
    let folder = vm.workspace.root.join(FOLDER);
    for name in fault::names_in(&folder)? {
        let patch = folder.join(format!("{name}.patch"));
        let text = std::fs::read_to_string(&patch)
            .context(|| format!("cannot read {}", patch.display()))?;
        let by = said(&text, REPORTED_BY, &patch)?;
        let tool = Tool::ALL.into_iter().find(|tool| tool.name() == by);
        let tool = tool.context(|| format!("{} names no tool", patch.display()))?;
        let dir = driver::copy(vm, Some(&patch), &vm.dir.join("static").join(&name))?;
        let found = tool.read(vm, &source, &dir, Some(&patch))?;
        match found.first() {
            Some(line) => println!("# planted {name}: reported by {by}: {line}"),
            None => println!("# planted {name}: MISSED by {by}"),
        }
        is_clean &= !found.is_empty();
    }
    Ok(is_clean)
}

/// Applies each patch for the kernel to the files that it is about, and compiles them.
fn upstream(vm: &Vm, source: &Source) -> Result<bool> {
    let patches = vm.workspace.root.join("driver/upstream");
    let mut is_clean = true;
    for name in fault::names_in(&patches)? {
        let patch = patches.join(format!("{name}.patch"));
        let text = std::fs::read_to_string(&patch)
            .context(|| format!("cannot read {}", patch.display()))?;
        let dir = vm.dir.join("static").join(&name);
        command::fresh_dir(&dir)?;
        let mut objects = Vec::new();
        for file in text.lines().filter_map(|line| line.strip_prefix("--- a/")) {
            let copy = dir.join(file);
            let folder = copy.parent().unwrap_or(&dir);
            let copied = std::fs::create_dir_all(folder)
                .and_then(|()| std::fs::copy(source.tree().join(file), &copy));
            copied.context(|| format!("cannot copy {file}"))?;
            objects.push(Path::new(file).with_extension("o"));
        }
        let mut apply = Command::new(vm.tools.busybox());
        apply.args(["patch", "-p1", "-i"]).arg(&patch);
        command::output(apply.current_dir(&dir))?;

        // Of the series that the source is of.
        let kernel = vm.kernel(series::SOURCE)?;
        let names = objects.iter().map(|object| object.display().to_string());
        let kbuild = format!("obj-m := {}\n", names.collect::<Vec<_>>().join(" "));
        std::fs::write(dir.join("Kbuild"), kbuild)
            .context(|| format!("cannot write to {}", dir.display()))?;
        let mut make = Command::new("make");
        make.arg("-C").arg(&kernel.headers);
        make.arg(format!("M={}", dir.display())).arg("W=1");
        // Not a module: what it calls is exported to modules only if it is one itself.
        make.args(&objects)
            .env("LC_ALL", "C")
            .env_remove("MAKEFLAGS");
        let built = make.output().context(|| "cannot run make")?;
        let log = [built.stdout, built.stderr].concat();
        let log = String::from_utf8_lossy(&log);
        let is_fine = built.status.success() && !log.lines().any(driver::is_warning);
        if !is_fine {
            println!("{log}");
        }
        let how = if is_fine {
            "compiles"
        } else {
            "does not compile"
        };
        println!("# upstream {name}: applies to {} and {how}", kernel.release);
        is_clean &= is_fine;
    }
    Ok(is_clean)
}

#[derive(Clone, Copy)]
enum Tool {
    Checkpatch,
    Sparse,
    Coccinelle,
}

impl Tool {
    const ALL: [Self; 3] = [Self::Checkpatch, Self::Sparse, Self::Coccinelle];

    fn name(self) -> &'static str {
        match self {
            Self::Checkpatch => "checkpatch",
            Self::Sparse => "sparse",
            Self::Coccinelle => "coccinelle",
        }
    }

    /// What the tool remarks on a copy of the driver.
    fn read(
        self,
        vm: &Vm,
        source: &Source,
        dir: &Path,
        patch: Option<&Path>,
    ) -> Result<Vec<String>> {
        match self {
            Self::Checkpatch => checkpatch(source, dir),
            Self::Sparse => sparse(vm, patch),
            Self::Coccinelle => coccinelle(vm, source, dir),
        }
    }
}

fn checkpatch(source: &Source, dir: &Path) -> Result<Vec<String>> {
    let mut remarks = Vec::new();
    let files = command::files(dir)?;
    // Not the text of the licence, which is what it is.
    for file in files.iter().filter(|file| !file.ends_with("COPYING")) {
        let mut perl = Command::new("perl");
        perl.arg(source.tree().join("scripts/checkpatch.pl"));
        perl.args(CHECKPATCH);
        if file
            .extension()
            .is_some_and(|extension| extension == "patch")
        {
            // Whoever sends it signs it.
            perl.arg("--ignore=MISSING_SIGN_OFF");
        } else {
            perl.arg("--file");
        }
        if file.ends_with("trace.h") {
            perl.arg(TRACEPOINTS);
        }
        // It fails if it has a remark.
        let read = perl
            .arg(file)
            .output()
            .context(|| "cannot run checkpatch.pl")?;
        for text in [&read.stdout, &read.stderr] {
            let text = String::from_utf8_lossy(text);
            remarks.extend(text.lines().map(str::to_owned));
        }
    }
    Ok(remarks)
}

/// The build accepts no warning, so what sparse says is why it failed.
fn sparse(vm: &Vm, patch: Option<&Path>) -> Result<Vec<String>> {
    let built = Driver::build(vm, &vm.kernel(series::DEFAULT)?, patch);
    let text = built.err().map(|error| error.to_string());
    let warnings = text.iter().flat_map(|text| text.lines());
    Ok(warnings
        .filter(|line| line.contains("warning:") || line.contains("error:"))
        .map(str::to_owned)
        .collect())
}

/// Each of the kernel's scripts, in its mode for reports, and the project's own for the order that the
/// driver promises.
fn coccinelle(vm: &Vm, source: &Source, dir: &Path) -> Result<Vec<String>> {
    let mut scripts = command::files(&source.tree().join("scripts/coccinelle"))?;
    scripts.push(vm.workspace.root.join("xtask/kernel/order.cocci"));
    let mut remarks = Vec::new();
    let mut used = 0;
    for script in scripts {
        let text = std::fs::read_to_string(&script)
            .context(|| format!("cannot read {}", script.display()))?;
        // Two are partly written in OCaml, for which there is no compiler: one is about another
        // driver, the other about comparing pointers with 0, which sparse sees as well.
        if !text.contains("virtual report") || text.contains(":ocaml") {
            continue;
        }
        used += 1;
        let options = text
            .lines()
            .find_map(|line| line.strip_prefix("// Options:"));
        let mut spatch = source.spatch()?;
        spatch.args(["-D", "report", "--very-quiet", "--no-show-diff"]);
        spatch.arg("--cocci-file").arg(&script);
        spatch.args(options.unwrap_or_default().split_whitespace());
        let found = command::output(spatch.arg("--dir").arg(dir))?;
        remarks.extend(found.lines().map(str::to_owned));
    }
    println!("# coccinelle: {used} scripts");
    Ok(remarks)
}
