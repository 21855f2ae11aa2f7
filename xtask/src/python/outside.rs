// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A project as a user's: in a folder of its own, with the wheel, pytest, and nothing else.

use std::path::Path;

use super::venv::Venv;
use super::{Python, pip_install};
use crate::command;
use crate::error::{Context, Result};
use crate::failure::Failure;
use crate::tally::Tally;

/// The file of the program, what guards its token there, and what would keep it.
const PROGRAM: &str = "sessions.py";
const GUARDED: &str = "@sysgenid.cached";
const KEPT: &str = "@__import__(\"functools\").cache";

impl Python<'_> {
    /// Runs the tests of `examples/python/restore_test`; and again, to see that they tell, on a
    /// program that does not notice a restore.
    pub(super) fn outside(&self, wheel: &Path) -> Result<Tally> {
        println!("-- a project with the wheel and pytest");
        let main = &self.interpreters.main;
        let venv = Venv::new(main, &self.folder.join("outside").join("venv"))?;
        command::output(venv.python().args(["-I", "-m", "ensurepip"]))?;
        let mut pip = pip_install(&venv);
        pip.arg("--constraint");
        pip.arg(self.package.join("requirements-dev.txt"));
        command::run(pip.arg("pytest").arg(wheel))?;

        let project = self.workspace.root.join("examples/python/restore_test");
        let folder = self.folder.join("outside").join("project");
        command::fresh_dir(&folder)?;
        for name in [PROGRAM, "test_restore.py", "test_more.py"] {
            let cannot = || format!("cannot copy {name}");
            std::fs::copy(project.join(name), folder.join(name)).context(cannot)?;
        }
        let mut tally = self.test_outside(&venv, &folder, true)?;
        let program = folder.join(PROGRAM);
        let cannot = || format!("cannot change {}", program.display());
        let text = std::fs::read_to_string(&program).context(cannot)?;
        std::fs::write(&program, text.replace(GUARDED, KEPT)).context(cannot)?;
        tally += self.test_outside(&venv, &folder, false)?;
        Ok(tally)
    }

    /// Whether pytest is green there, or red because of tests that failed.
    fn test_outside(&self, venv: &Venv, folder: &Path, is_green: bool) -> Result<Tally> {
        let mut pytest = venv.python();
        pytest.args([
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-W",
            "error",
        ]);
        pytest
            .current_dir(folder)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        // Nothing of this project is in reach: no command, and no source of the machine's.
        pytest
            .env("PATH", venv.program(""))
            .env("SYSGENID_SOURCE", folder.join("nothing"));
        let status = command::tee_both(&mut pytest, |_| ())?;
        if status.code() == Some(i32::from(!is_green)) {
            return Ok(Tally::ONE);
        }
        let reason = if is_green {
            format!("the tests of a protected program: {status}")
        } else {
            format!("the tests of a program that keeps its token: {status}")
        };
        Ok(Tally::failed(Failure::of(
            "a project with the wheel",
            &reason,
        )))
    }
}
