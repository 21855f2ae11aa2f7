// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Virtual environments: one for the tools, and new ones for what is tested.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::interpreter::Interpreter;
use crate::command;
use crate::error::{Context, Result};

/// The file that says what was installed, so that it is done again when that changes.
const INSTALLED: &str = "installed.txt";

pub(crate) struct Venv {
    folder: PathBuf,
}

impl Venv {
    /// An empty one, made anew. It has no pip of its own, which would take longer than all the rest:
    /// the tools' installs into it.
    pub(crate) fn new(interpreter: &Interpreter, folder: &Path) -> Result<Self> {
        if folder.exists() {
            std::fs::remove_dir_all(folder)
                .context(|| format!("cannot remove {}", folder.display()))?;
        }
        let mut python = Command::new(&interpreter.program);
        python
            .args(["-I", "-m", "venv", "--without-pip"])
            .arg(folder);
        command::run(&mut python)?;
        Ok(Self {
            folder: folder.into(),
        })
    }

    /// One that is kept, with what a requirements file names.
    pub(crate) fn kept(
        interpreter: &Interpreter,
        folder: &Path,
        requirements: &Path,
        install: impl FnOnce(&Self) -> Result<()>,
    ) -> Result<Self> {
        let wanted = std::fs::read_to_string(requirements)
            .context(|| format!("cannot read {}", requirements.display()))?;
        let wanted = format!("{}\n{wanted}", interpreter.program.display());
        let note = folder.join(INSTALLED);
        if std::fs::read_to_string(&note).is_ok_and(|installed| installed == wanted) {
            return Ok(Self {
                folder: folder.into(),
            });
        }
        let venv = Self::new(interpreter, folder)?;
        install(&venv)?;
        // Last, so that what was left half-way is not taken for whole.
        std::fs::write(&note, wanted).context(|| format!("cannot write {}", note.display()))?;
        Ok(venv)
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    /// Its interpreter, in a folder where nothing lies that could stand in for an installed module,
    /// and without what the environment says of others.
    pub(crate) fn python(&self) -> Command {
        let mut python = Command::new(self.program("python"));
        python.current_dir(&self.folder);
        python.env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        python
    }

    /// Where its modules are.
    pub(super) fn modules(&self) -> Result<PathBuf> {
        let question = "import sysconfig; print(sysconfig.get_path('purelib'))";
        let path = command::output(self.python().args(["-I", "-c", question]))?;
        Ok(path.trim().into())
    }

    /// Lets it see the modules of another one, after its own.
    pub(crate) fn borrow_modules(&self, of: &Self) -> Result<()> {
        let note = self.modules()?.join("borrowed.pth");
        let path = of.modules()?;
        std::fs::write(&note, path.as_os_str().as_encoded_bytes())
            .context(|| format!("cannot write {}", note.display()))
    }
}
