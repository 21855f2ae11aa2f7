// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A Debian package: a tree of files, dpkg's description of it, and the scripts that dpkg runs.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{Context, Result};
use crate::workspace::Workspace;

const SCRIPTS: [&str; 4] = ["preinst", "postinst", "prerm", "postrm"];

/// The files of a package, by where they are installed.
pub(super) struct Tree(BTreeMap<String, Entry>);

struct Entry {
    content: Vec<u8>,
    mode: u32,
}

pub(super) struct Deb {
    pub(super) name: &'static str,
    pub(super) tree: Tree,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self(BTreeMap::new())
    }

    pub(super) fn file(&mut self, to: &str, from: &Path) -> Result<()> {
        let content = super::read(from)?;
        self.add(to, content, 0o644);
        Ok(())
    }

    pub(super) fn program(&mut self, to: &str, from: &Path) -> Result<()> {
        let content = super::read(from)?;
        self.add(to, content, 0o755);
        Ok(())
    }

    /// As Debian wants man pages and changelogs.
    pub(super) fn compressed(&mut self, to: &str, from: &Path) -> Result<()> {
        let content = command::bytes(Command::new("gzip").args(["-9nc"]).arg(from))?;
        self.add(&format!("{to}.gz"), content, 0o644);
        Ok(())
    }

    /// The documents of every package.
    pub(super) fn documents(&mut self, workspace: &Workspace, package: &str) -> Result<()> {
        let directory = format!("usr/share/doc/{package}");
        let copyright = workspace.root.join("packaging/debian/copyright");
        self.file(&format!("{directory}/copyright"), &copyright)?;
        let changes = workspace.root.join("CHANGELOG.md");
        self.compressed(&format!("{directory}/changelog"), &changes)
    }

    fn add(&mut self, to: &str, content: Vec<u8>, mode: u32) {
        self.0.insert(to.into(), Entry { content, mode });
    }

    /// Kibibytes, as dpkg reckons them.
    fn size(&self) -> usize {
        let sizes = self
            .0
            .values()
            .map(|entry| entry.content.len().div_ceil(1024));
        sizes.sum()
    }
}

/// What the packages are made with.
pub(super) struct Maker<'a> {
    /// Where dpkg's part of them lies.
    debian: &'a Path,
    /// Where they go.
    folder: &'a Path,
    values: &'a BTreeMap<&'a str, String>,
    /// Of all files, in seconds since the epoch.
    time: String,
}

impl<'a> Maker<'a> {
    pub(super) fn new(
        debian: &'a Path,
        folder: &'a Path,
        values: &'a BTreeMap<&'a str, String>,
    ) -> Result<Self> {
        let time = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(time) => time,
            Err(_) => {
                let mut git = Command::new("git");
                git.args(["log", "-1", "--format=%ct"]).current_dir(debian);
                command::output(&mut git)?.trim().into()
            }
        };
        Ok(Self {
            debian,
            folder,
            values,
            time,
        })
    }

    /// Builds the package, and says where it is.
    pub(super) fn build(&self, deb: &Deb) -> Result<PathBuf> {
        let root = self.folder.join("roots").join(deb.name);
        for (path, entry) in &deb.tree.0 {
            write(&root.join(path), &entry.content, entry.mode)?;
        }
        let dpkg = root.join("DEBIAN");
        let control = self.filled("control")?;
        let begin = format!("Package: {}\n", deb.name);
        let paragraph = control
            .split("\n\n")
            .find(|paragraph| paragraph.starts_with(&begin))
            .context(|| format!("packaging/debian/control has no package {}", deb.name))?;
        let control = format!(
            "{}\nInstalled-Size: {}\n",
            paragraph.trim(),
            deb.tree.size()
        );
        write(&dpkg.join("control"), control.as_bytes(), 0o644)?;
        let mut md5sum = Command::new("md5sum");
        md5sum.args(deb.tree.0.keys()).current_dir(&root);
        let sums = command::output(&mut md5sum)?;
        write(&dpkg.join("md5sums"), sums.as_bytes(), 0o644)?;
        for script in SCRIPTS {
            let name = format!("{}.{script}", deb.name);
            if self.debian.join(&name).exists() {
                write(&dpkg.join(script), self.filled(&name)?.as_bytes(), 0o755)?;
            }
        }

        let mut dpkg_deb = Command::new("dpkg-deb");
        dpkg_deb.args(["--root-owner-group", "--threads-max=1", "-Zxz", "--build"]);
        dpkg_deb.arg(&root).arg(self.folder);
        dpkg_deb.env("SOURCE_DATE_EPOCH", &self.time);
        command::output(&mut dpkg_deb)?;
        let value = |key| self.values.get(key).map_or("", String::as_str);
        let architecture = match paragraph.contains("\nArchitecture: all\n") {
            true => "all",
            false => value("@ARCHITECTURE@"),
        };
        let file = format!("{}_{}_{architecture}.deb", deb.name, value("@VERSION@"));
        Ok(self.folder.join(file))
    }

    /// A file of dpkg's part, with the values in their places.
    fn filled(&self, name: &str) -> Result<String> {
        let path = self.debian.join(name);
        let mut text =
            fs::read_to_string(&path).context(|| format!("cannot read {}", path.display()))?;
        for (place, value) in self.values {
            text = text.replace(place, value);
        }
        Ok(text)
    }
}

/// As Debian calls it.
pub(super) fn architecture() -> Result<String> {
    let text = command::output(Command::new("dpkg").arg("--print-architecture"))?;
    Ok(text.trim().into())
}

/// Whatever the umask is here.
fn write(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut made = Vec::new();
    let mut folder = path.parent();
    while let Some(missing) = folder.filter(|folder| !folder.exists()) {
        made.push(missing);
        folder = missing.parent();
    }
    for folder in made.into_iter().rev() {
        fs::create_dir(folder).context(cannot)?;
        fs::set_permissions(folder, Permissions::from_mode(0o755)).context(cannot)?;
    }
    fs::write(path, content).context(cannot)?;
    fs::set_permissions(path, Permissions::from_mode(mode)).context(cannot)
}
