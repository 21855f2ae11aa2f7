// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `cargo xtask fastpath`: the instructions of each fast path, counted, and what its machine code
//! could call.

mod callgrind;
mod machine_code;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::command;
use crate::error::{Context, Error, Result};
use crate::tally::Tally;
use crate::vm::Instruments;
use crate::workspace::Workspace;
use machine_code::MachineCode;
use table::Table;

const PACKAGE: &str = "sysgenid-fastpath";

/// Uses under callgrind. So few that no generator runs out of what it has ready.
const COUNTED: u32 = 8;

/// Uses that must not allocate.
const MANY: u32 = 1_000_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write the counts to the table. What may be called is added by hand
    #[arg(long)]
    renew: bool,
}

pub(crate) fn run(args: &Args) -> Result<bool> {
    let workspace = Workspace::load()?;
    if args.renew {
        let found = Found::measure(&workspace)?;
        let path = table_of(&workspace);
        Table::read(&path)?.with(&found.instructions).write(&path)?;
        println!("wrote {}", path.display());
    }
    Ok(check(&workspace)?.is_success())
}

/// How many instructions each path takes, and may ever take, in the order of the table.
pub(crate) fn instructions(workspace: &Workspace) -> Result<Vec<(String, u64, Option<u64>)>> {
    let table = Table::read(&table_of(workspace))?;
    let found = Found::measure(workspace)?.instructions;
    let rows = table.rows.into_iter();
    Ok(rows
        .filter_map(|row| Some((found.get(&row.name).copied()?, row)))
        .map(|(instructions, row)| (row.name, instructions, row.bound))
        .collect())
}

/// Compares what is found with the table.
pub(crate) fn check(workspace: &Workspace) -> Result<Tally> {
    let table = Table::read(&table_of(workspace))?;
    let found = Found::measure(workspace)?;
    let mut checks = Vec::new();
    for row in &table.rows {
        let name = &row.name;
        let instructions = found.instructions.get(name);
        checks.push((
            format!(
                "{name}: {} instructions ({} in the table)",
                text(instructions),
                row.instructions
            ),
            instructions == Some(&row.instructions),
        ));
        if let Some(bound) = row.bound {
            let holds = instructions.is_some_and(|&found| found <= bound);
            checks.push((format!("{name}: at most {bound} instructions"), holds));
        }
        let allocations = found.allocations.get(name);
        checks.push((
            format!("{name}: {} allocations in {MANY} uses", text(allocations)),
            allocations == Some(&0),
        ));
        let calls = match found.code.calls(row) {
            Ok(calls) => calls,
            Err(error) => {
                checks.push((format!("{name}: {error}"), false));
                continue;
            }
        };
        let expected: BTreeSet<_> = row.cold.iter().chain(&row.warm).cloned().collect();
        checks.push((
            format!("{name}: calls what the table says"),
            calls == expected,
        ));
        for call in calls.difference(&expected) {
            checks.push((format!("{name}: could call {call}"), false));
        }
        for call in expected.difference(&calls) {
            checks.push((format!("{name}: does not call {call}"), false));
        }
    }
    for name in found.instructions.keys() {
        if !table.rows.iter().any(|row| row.name == *name) {
            checks.push((format!("{name} is not in the table"), false));
        }
    }
    for name in not_cold(&table, &workspace.root)? {
        checks.push((format!("{name} has no attribute #[cold]"), false));
    }
    let checks: Vec<_> = checks
        .iter()
        .map(|(name, ok)| (name.as_str(), *ok))
        .collect();
    Ok(Tally::of_checks(&checks))
}

/// The functions of this project that the table calls cold, and that are not.
fn not_cold(table: &Table, root: &Path) -> Result<BTreeSet<String>> {
    let mut sources = String::new();
    for folder in ["sysgenid-sys/src", "sysgenid/src"] {
        for file in command::files(&root.join(folder))? {
            sources.push_str(&read(&file)?);
        }
    }
    // The attribute, perhaps others below it, and then the function.
    let head = |text: &str| text.split_once("fn ").map(|(head, _)| head.len());
    let cold: BTreeSet<_> = sources
        .split("#[cold]")
        .skip(1)
        .filter_map(|text| {
            text.get(head(text)? + "fn ".len()..)?
                .split(['(', '<'])
                .next()
        })
        .collect();
    let ours = table.rows.iter().flat_map(|row| &row.cold);
    let ours = ours.filter(|name| name.trim_start_matches('<').starts_with("sysgenid"));
    let is_cold = |name: &&String| cold.contains(name.rsplit("::").next().unwrap_or_default());
    Ok(ours.filter(|name| !is_cold(name)).cloned().collect())
}

fn table_of(workspace: &Workspace) -> PathBuf {
    workspace.root.join("fastpath/table.txt")
}

fn text(found: Option<&u64>) -> String {
    found.map_or_else(|| "no".into(), u64::to_string)
}

/// What a build of the fast paths is like.
struct Found {
    instructions: BTreeMap<String, u64>,
    allocations: BTreeMap<String, u64>,
    code: MachineCode,
}

impl Found {
    fn measure(workspace: &Workspace) -> Result<Self> {
        if std::env::consts::ARCH != "x86_64" {
            return Err(Error::new("the fast paths are counted on x86_64 only"));
        }
        let instruments = Instruments::open(&workspace.target)?;
        let mut build = workspace.cargo();
        command::run(build.args(["build", "--quiet", "--release", "--package", PACKAGE]))?;
        let program = workspace.target.join("release").join(PACKAGE);

        let folder = tempfile::tempdir().context(|| "cannot make a temporary folder")?;
        let page = folder.path().join("page");
        std::fs::write(&page, [0; 4096]).context(|| format!("cannot write {}", page.display()))?;

        let mut many = Command::new(&program);
        many.env("SYSGENID_SOURCE", &page).arg(MANY.to_string());
        let allocations = allocations(&command::output(&mut many)?)?;

        let counts = folder.path().join("callgrind.out");
        let mut counted = instruments.valgrind()?;
        counted.args(callgrind::OPTIONS);
        counted.arg(format!("--callgrind-out-file={}", counts.display()));
        counted.arg(&program).arg(COUNTED.to_string());
        command::output(counted.env("SYSGENID_SOURCE", &page))?;
        let names = allocations.keys().map(String::as_str);
        let instructions = callgrind::per_use(&read(&counts)?, names, COUNTED.into())?;

        let code = MachineCode::read(&instruments, &program)?;
        Ok(Self {
            instructions,
            allocations,
            code,
        })
    }
}

/// From what the program prints: an object a line.
fn allocations(lines: &str) -> Result<BTreeMap<String, u64>> {
    let path = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let name = line.get("path")?.as_str()?.to_owned();
        Some((name, line.get("allocations")?.as_u64()?))
    };
    let paths = lines.lines();
    paths
        .map(|line| path(line).context(|| format!("{PACKAGE} printed: {line}")))
        .collect()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).context(|| format!("cannot read {}", path.display()))
}
