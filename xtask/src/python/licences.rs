// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The licences of the crates that are linked into the native module, which go with it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::Python;
use crate::command;
use crate::error::{Context, Error, Result};
use crate::failure::Failure;
use crate::tally::Tally;

/// In the package's folder. It is committed, because who builds from the sources has no xtask.
const FILE: &str = "LICENSE-THIRD-PARTY";

/// The beginning of the file, up to the terms of the MIT licence.
const BEGINNING: &str = "\
The native module of the Python package sysgenid contains parts of the Rust standard library and of the
crates below. Each is used under the terms of the MIT licence.

---- The Rust standard library

Copyright (c) The Rust Project Contributors

";

impl Python<'_> {
    /// Compares the file with the crates. One that is out of date is written anew.
    pub(super) fn licences(&self) -> Result<Tally> {
        let path = self.package.join(FILE);
        let wanted = self.third_party()?;
        if fs::read_to_string(&path).is_ok_and(|text| text == wanted) {
            return Ok(Tally::ONE);
        }
        fs::write(&path, wanted).context(|| format!("cannot write {}", path.display()))?;
        let reason = "it did not list the crates that are linked; it does now: commit it";
        println!("{}: {reason}", path.display());
        Ok(Tally::failed(Failure::of(FILE, reason)))
    }

    fn third_party(&self) -> Result<String> {
        let mut tree = self.workspace.cargo();
        tree.args([
            "tree",
            "--locked",
            "--package",
            "sysgenid-py",
            "--prefix",
            "none",
        ]);
        tree.args(["--edges", "normal,no-proc-macro", "--format", "{p}"]);
        // Those of the other machine are the same.
        tree.args(["--target", "x86_64-unknown-linux-gnu"]);
        let tree = command::output(&mut tree)?;
        // The workspace's are shown with their paths.
        let linked = tree
            .lines()
            .filter(|line| !line.contains('(') || line.ends_with("(*)"));
        let linked: BTreeSet<_> = linked.filter_map(|line| line.split(' ').next()).collect();

        let mut metadata = self.workspace.cargo();
        metadata.args(["metadata", "--locked", "--format-version=1"]);
        let metadata = command::output(&mut metadata)?;
        let metadata: Value = serde_json::from_str(&metadata).context(|| "cargo metadata")?;
        let packages = metadata.get("packages").and_then(Value::as_array);
        let packages = packages.context(|| "cargo metadata has no packages")?;

        let own = self.workspace.root.join("LICENSE-MIT");
        let own = fs::read_to_string(&own).context(|| own.display().to_string())?;
        let terms = own.find("Permission is hereby granted");
        let terms = terms.and_then(|start| own.get(start..));
        let mut text = BEGINNING.to_owned() + terms.context(|| "LICENSE-MIT has no terms")?;
        for name in linked {
            let is_it = |package: &&Value| package.get("name").is_some_and(|found| found == name);
            // Of several versions one is as good.
            let package = packages.iter().find(is_it);
            let field = |key| package.and_then(|package| package.get(key)?.as_str());
            if field("source").is_none() {
                continue;
            }
            let manifest = field("manifest_path").context(|| format!("{name} is nowhere"))?;
            let licence = Path::new(manifest).with_file_name("LICENSE-MIT");
            let licence = fs::read_to_string(&licence)
                .map_err(|error| Error::new(format!("{name}: {}: {error}", licence.display())))?;
            let licence = licence.replace("\r\n", "\n");
            text.push_str(&format!("\n---- {name}\n\n{}\n", licence.trim()));
        }
        Ok(text)
    }
}
