// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Python package: built, installed where nothing else is, and tested there.

mod debian;
mod interpreter;
mod licences;
mod outside;
mod pytest;
mod venv;
mod wheels;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{Context, Error, Result};
use crate::failure::Failure;
use crate::tally::Tally;
use crate::test::Depth;
use crate::workspace::Workspace;
pub(crate) use interpreter::{Interpreter, Interpreters};
pub(crate) use venv::Venv;
pub(crate) use wheels::wheels;

/// What the tests are told: the command that serves them.
const COMMAND: &str = "SYSGENID_COMMAND";

/// What the bench of a wake-up compares with.
const STAND_IN: &str = "sysgenid-bench-stand-in";

/// What mypy and ruff look at, as seen from the package's folder.
const SOURCES: [&str; 7] = [
    "python/sysgenid",
    "tests",
    "benches",
    "wheels",
    "../examples/python",
    "../xtask/guest/python",
    "../conformance/src/criu",
];

/// How often the tests open and close a watcher, to see what is left, where everything is run. They
/// open some thousands otherwise.
const OPENINGS: (&str, &str) = ("SYSGENID_TEST_OPENINGS", "1000000");

/// What makes a release build of sources that are only to be complete take less time.
const UNOPTIMISED: [(&str, &str); 3] = [
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1"),
    ("CARGO_PROFILE_RELEASE_LTO", "off"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
];

/// The module in the benches' folder that is none.
const BENCHES_SHARE: &str = "bounds";

/// Everything that has to do with Python, in a folder of its own.
pub(crate) struct Python<'a> {
    workspace: &'a Workspace,
    /// Of the package.
    package: PathBuf,
    /// Of what is built and installed.
    folder: PathBuf,
    pub(crate) interpreters: Interpreters,
}

/// The step of `cargo xtask test`.
pub(crate) fn test(workspace: &Workspace, depth: Depth) -> Result<Tally> {
    let python = Python::open(workspace)?;
    let mut tally = python.lints()?;
    tally += python.licences()?;

    let wheel = python.wheel(&python.interpreters.main)?;
    println!("built {}", wheel.display());
    tally += python.types(&wheel)?;
    tally += python.outside(&wheel)?;
    tally += python.unsupported(&wheel)?;
    for interpreter in python.interpreters.for_the_wheel() {
        tally += python.pytest(interpreter, &wheel, depth)?;
    }
    let mut free_threaded = false;
    for interpreter in python.interpreters.free_threaded() {
        tally += python.pytest(interpreter, &python.wheel(interpreter)?, depth)?;
        free_threaded = true;
    }
    if !free_threaded {
        println!("left out: free-threaded builds, of which this machine has none");
    }
    tally += python.installs_from_sources(depth)?;
    Ok(tally)
}

impl<'a> Python<'a> {
    pub(crate) fn open(workspace: &'a Workspace) -> Result<Self> {
        Ok(Self {
            workspace,
            package: workspace.root.join("sysgenid-py"),
            folder: workspace.target.join("python"),
            interpreters: Interpreters::find()?,
        })
    }

    /// What the tests and the checks are run with, for one interpreter.
    pub(crate) fn tools(&self, interpreter: &Interpreter) -> Result<Venv> {
        let folder = self.folder.join(interpreter.name()).join("tools");
        let requirements = self.package.join("requirements-dev.txt");
        Venv::kept(interpreter, &folder, &requirements, |venv| {
            println!("installing tools for {}", interpreter.name());
            if interpreter.program == self.interpreters.main.program {
                command::output(venv.python().args(["-I", "-m", "ensurepip"]))?;
                return command::run(pip_install(venv).arg("--requirement").arg(&requirements));
            }
            // Not every Python has a pip that it could install.
            let mut pip = self.tools(&self.interpreters.main)?.python();
            pip.args(["-I", "-m", "pip", "--quiet", "--disable-pip-version-check"]);
            pip.arg("--python")
                .arg(venv.program("python"))
                .arg("install");
            command::run(pip.arg("--requirement").arg(&requirements))
        })
    }

    /// Builds the wheel, and says where it is. That for an ordinary interpreter is for all of them.
    pub(crate) fn wheel(&self, interpreter: &Interpreter) -> Result<PathBuf> {
        let folder = self.folder.join(interpreter.name()).join("wheel");
        command::fresh_dir(&folder)?;
        let mut maturin = self.maturin("build")?;
        maturin
            .args(["--release", "--locked", "--quiet", "--out"])
            .arg(&folder);
        maturin.arg("--interpreter").arg(&interpreter.program);
        if interpreter.free_threaded {
            maturin.arg("--no-default-features");
        }
        command::run(&mut maturin)?;
        only_file(&folder)
    }

    /// A new environment with the wheel, and with the tools beside it.
    pub(crate) fn installed(&self, interpreter: &Interpreter, wheel: &Path) -> Result<Venv> {
        let tools = self.tools(interpreter)?;
        let folder = self.folder.join(interpreter.name()).join("venv");
        let venv = Venv::new(interpreter, &folder)?;
        // Only the main one's are sure to have a pip.
        let mut pip = self.tools(&self.interpreters.main)?.python();
        pip.args(["-I", "-m", "pip", "--quiet", "--python"])
            .arg(venv.program("python"));
        // Nothing else is looked for: the package needs nothing.
        pip.args(["install", "--no-index", "--no-compile"])
            .arg(wheel);
        command::run(&mut pip)?;
        venv.borrow_modules(&tools)?;
        Ok(venv)
    }

    /// The command that serves the tests.
    fn command(&self, depth: Depth) -> Result<PathBuf> {
        let mut cargo = self.workspace.cargo();
        if depth.is_thorough() {
            // It is what others are measured beside, and serves a million watchers.
            cargo.args(["build", "--quiet", "--release", "--package", "sysgenid-cli"]);
            command::run(cargo.args(["--bin", "sysgenid"]))?;
        } else {
            // With a test of the command, because cargo builds it like that for the unit tests:
            // alone, it would have other features, and so would the crates that it needs.
            cargo.args(["build", "--quiet", "--workspace", "--test", "commands"]);
            command::run(&mut cargo)?;
        }
        Ok(self.built(depth, "sysgenid"))
    }

    /// A program of the workspace that is built already.
    fn built(&self, depth: Depth, program: &str) -> PathBuf {
        let profile = if depth.is_thorough() {
            "release"
        } else {
            "debug"
        };
        self.workspace.target.join(profile).join(program)
    }

    /// The benches, each with its name and as the command that runs it. What they compare with must
    /// be built already: cargo does that together with the other benches.
    pub(crate) fn benches(&self, depth: Depth) -> Result<Vec<(String, Command)>> {
        let wheel = self.wheel(&self.interpreters.main)?;
        let venv = self.installed(&self.interpreters.main, &wheel)?;
        let served = self.command(depth)?;
        let stand_in = self.built(depth, STAND_IN);
        let mut benches = Vec::new();
        for path in command::files(&self.package.join("benches"))? {
            let is_python = path.extension().is_some_and(|extension| extension == "py");
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            if is_python && name != BENCHES_SHARE {
                let mut python = venv.python();
                python.arg(&path).env(COMMAND, &served);
                python.env("SYSGENID_BENCH_STAND_IN", &stand_in);
                // Where the broker's process is described.
                python.env("PYTHONPATH", self.package.join("tests"));
                benches.push((name.into_owned(), python));
            }
        }
        Ok(benches)
    }

    fn maturin(&self, task: &str) -> Result<Command> {
        let tools = self.tools(&self.interpreters.main)?;
        let mut maturin = Command::new(tools.program("maturin"));
        maturin.arg(task).current_dir(&self.package);
        Ok(maturin)
    }

    fn lints(&self) -> Result<Tally> {
        let tools = self.tools(&self.interpreters.main)?;
        let ruff = |arguments: &[&str]| {
            let mut ruff = Command::new(tools.program("ruff"));
            ruff.args(arguments)
                .args(SOURCES)
                .current_dir(&self.package);
            ruff
        };
        let mut tally = check(&mut ruff(&["check", "--no-cache"]));
        tally += check(&mut ruff(&["format", "--no-cache", "--check"]));
        Ok(tally)
    }

    /// The stubs against the module, and the types of everything.
    fn types(&self, wheel: &Path) -> Result<Tally> {
        let venv = self.installed(&self.interpreters.main, wheel)?;
        let cache = self.folder.join("mypy");
        let mut stubtest = venv.python();
        stubtest.args(["-m", "mypy.stubtest", "sysgenid", "--allowlist"]);
        stubtest.arg(self.package.join("stubtest-allowlist.txt"));
        // What is listed for some versions is not needed with others.
        stubtest.arg("--ignore-unused-allowlist");
        let mut mypy = venv.python();
        mypy.current_dir(&self.package);
        mypy.args(["-m", "mypy", "--strict", "--cache-dir"])
            .arg(&cache)
            .args(SOURCES);
        let mut tally = check(&mut stubtest);
        tally += check(&mut mypy);
        tally += self.pyright(&venv)?;
        Ok(tally)
    }

    /// What the other type checker knows of each public name, and of the sources.
    fn pyright(&self, venv: &Venv) -> Result<Tally> {
        let main = &self.interpreters.main;
        let folder = self.folder.join(main.name()).join("types-tools");
        let requirements = self.package.join("requirements-types.txt");
        let tools = Venv::kept(main, &folder, &requirements, |tools| {
            println!("installing pyright");
            command::output(tools.python().args(["-I", "-m", "ensurepip"]))?;
            command::run(pip_install(tools).arg("--requirement").arg(&requirements))
        })?;
        let pyright = || {
            let mut pyright = tools.python();
            // It would ask whether there is a newer one.
            pyright.env("PYRIGHT_PYTHON_IGNORE_WARNINGS", "1");
            pyright.args(["-m", "pyright", "--warnings", "--pythonpath"]);
            pyright.arg(venv.program("python"));
            pyright
        };
        let mut names = pyright();
        names.args(["--ignoreexternal", "--verifytypes", "sysgenid"]);
        // For this it does not ask the interpreter where modules are.
        names.env("PYTHONPATH", venv.modules()?);
        let mut sources = pyright();
        sources
            .arg("--project")
            .arg(self.package.join("pyproject.toml"));
        let mut tally = check(&mut names);
        tally += check(&mut sources);
        Ok(tally)
    }

    fn pytest(&self, interpreter: &Interpreter, wheel: &Path, depth: Depth) -> Result<Tally> {
        let venv = self.installed(interpreter, wheel)?;
        println!("-- pytest, {}", interpreter.name());
        let mut pytest = venv.python();
        pytest.args(["-m", "pytest", "-p", "no:cacheprovider", "tests"]);
        pytest.current_dir(&self.package);
        pytest.env(COMMAND, self.command(depth)?);
        let is_main = interpreter.program == self.interpreters.main.program;
        if is_main && depth.is_thorough() {
            pytest.env(OPENINGS.0, OPENINGS.1);
        }
        pytest.env("PYTHONDONTWRITEBYTECODE", "1");
        let note = self.folder.join(interpreter.name()).join("test.txt");
        std::fs::write(&note, "").context(|| format!("cannot write {}", note.display()))?;
        pytest.env(pytest::NOTE, &note);
        let mut report = pytest::Report::default();
        let status = command::tee_both(&mut pytest, |line| report.add_line(line))?;
        let at = std::fs::read_to_string(&note).unwrap_or_default();
        let tally = report.finish(&interpreter.name(), status, &at);
        if tally == Tally::default() {
            return Err(Error::new("pytest ran nothing"));
        }
        Ok(tally)
    }

    /// Installs the package as its users can who have the sources: from the archive for PyPI, which
    /// must hold all that it takes, and from the repository.
    fn installs_from_sources(&self, depth: Depth) -> Result<Tally> {
        let main = &self.interpreters.main;
        let folder = self.folder.join("sdist");
        command::fresh_dir(&folder)?;
        command::output(self.maturin("sdist")?.arg("--out").arg(&folder))?;
        let archive = only_file(&folder)?;

        let mut tally = Tally::default();
        let sources = [("the archive", &archive), ("the repository", &self.package)];
        // The repository has at least what the archive has.
        let sources = if depth.is_thorough() {
            &sources[..]
        } else {
            &sources[..1]
        };
        for (what, source) in sources {
            println!("-- pip install, from {what}");
            let venv = Venv::new(main, &self.folder.join("from-sources"))?;
            command::output(venv.python().args(["-I", "-m", "ensurepip"]))?;
            // What the crates of others are built to is kept.
            let target = self.folder.join("from-sources-target");
            forget_own_crates(&target)?;
            let mut pip = pip_install(&venv);
            pip.env("CARGO_TARGET_DIR", &target);
            if !depth.is_thorough() {
                pip.envs(UNOPTIMISED);
            }
            pip.arg(source);
            tally += check(&mut pip);
            let mut python = venv.python();
            python.args([
                "-I",
                "-c",
                "import sysgenid; print(\"version\", sysgenid.__version__)",
            ]);
            tally += check(&mut python);
        }
        Ok(tally)
    }
}

/// Has cargo build the project's own crates again. It tells by the times of their sources, and those in
/// an archive have had the same time ever since.
fn forget_own_crates(target: &Path) -> Result<()> {
    let known = target.join("release/.fingerprint");
    if !known.exists() {
        return Ok(());
    }
    let cannot = || format!("cannot clear {}", known.display());
    for entry in known.read_dir().context(cannot)? {
        let entry = entry.context(cannot)?;
        if entry.file_name().to_string_lossy().starts_with("sysgenid") {
            std::fs::remove_dir_all(entry.path()).context(cannot)?;
        }
    }
    Ok(())
}

fn pip_install(venv: &Venv) -> Command {
    let mut pip = venv.python();
    pip.args([
        "-I",
        "-m",
        "pip",
        "--quiet",
        "--disable-pip-version-check",
        "install",
    ]);
    pip
}

/// A check that has no count of its own. The others still have something to say.
fn check(command: &mut Command) -> Tally {
    match command::run(command) {
        Ok(()) => Tally::ONE,
        Err(error) => {
            println!("xtask: {error}");
            Tally::failed(Failure::new(error.to_string()))
        }
    }
}

/// What a build has left in a folder that was empty.
fn only_file(folder: &Path) -> Result<PathBuf> {
    let files = command::files(folder)?;
    match files.as_slice() {
        [file] => Ok(file.clone()),
        _ => Err(Error::new(format!(
            "{} files in {}, and not one",
            files.len(),
            folder.display()
        ))),
    }
}
