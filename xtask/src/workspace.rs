// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where the repository and its build folder are, as cargo sees them.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::command;
use crate::error::{Context, Result};

#[derive(Clone)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    packages: Vec<Package>,
}

#[derive(Clone)]
struct Package {
    name: String,
    benches: Vec<String>,
    is_published: bool,
    rust_version: Option<String>,
    features: Vec<String>,
}

impl Package {
    fn new(package: &Value) -> Self {
        let is_bench = |target: &&Value| target.pointer("/kind/0").is_some_and(|k| k == "bench");
        let name = |value: &Value| {
            let name = value.get("name").and_then(Value::as_str);
            name.unwrap_or_default().to_owned()
        };
        let text = |key| Some(package.get(key)?.as_str()?.to_owned());
        let targets = package.get("targets").and_then(Value::as_array);
        let benches = targets.into_iter().flatten().filter(is_bench);
        let features = package.get("features").and_then(Value::as_object);
        let features = features.into_iter().flat_map(|features| features.keys());
        Self {
            name: name(package),
            benches: benches.map(name).collect(),
            // `publish = false` is a list of no registries.
            is_published: package.get("publish").is_none_or(Value::is_null),
            rust_version: text("rust_version"),
            features: features
                .filter(|name| *name != "default")
                .cloned()
                .collect(),
        }
    }
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let text = command::output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
        let metadata: Value = serde_json::from_str(&text).context(|| "cargo metadata")?;
        let path = |key: &str| {
            metadata
                .get(key)
                .and_then(Value::as_str)
                .map(PathBuf::from)
                .context(|| format!("cargo metadata has no {key}"))
        };
        let packages = metadata.pointer("/packages").and_then(Value::as_array);
        let packages = packages.context(|| "cargo metadata has no packages")?;
        Ok(Self {
            root: path("workspace_root")?,
            target: path("target_directory")?,
            packages: packages.iter().map(Package::new).collect(),
        })
    }

    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root);
        command
    }

    /// The published crates, each with its features.
    pub(crate) fn published(&self) -> impl Iterator<Item = (&str, &[String])> {
        let published = self.packages.iter().filter(|package| package.is_published);
        published.map(|package| (package.name.as_str(), package.features.as_slice()))
    }

    /// The oldest compiler that a package promises to build with.
    pub(crate) fn rust_version(&self, name: &str) -> Option<&str> {
        let package = self.packages.iter().find(|package| package.name == name);
        package?.rust_version.as_deref()
    }

    /// The benches, each as its package and its name.
    pub(crate) fn benches(&self) -> impl Iterator<Item = (&str, &str)> {
        self.packages.iter().flat_map(|package| {
            let benches = package.benches.iter();
            benches.map(|bench| (package.name.as_str(), bench.as_str()))
        })
    }
}

/// The cargo that runs us, so that a toolchain override holds for the whole run.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
