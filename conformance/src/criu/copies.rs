// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::error::Error;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{WaitOptions, getpid, set_child_subreaper, wait};
use sysgenid::SOURCE_VARIABLE;
use sysgenid_sys::page::CounterPageMut;

use super::report::Report;

/// How long a process may take to get ready: Python on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Which process is copied.
#[derive(Clone, Debug)]
pub enum Program {
    /// This program, in another role.
    Rust,
    /// `subject.py`, run by this interpreter.
    Python(PathBuf),
    /// `service.py`, run by this interpreter.
    Service {
        /// The interpreter.
        interpreter: PathBuf,
        /// Which of its services.
        kind: &'static str,
        /// Whether it uses the package.
        protected: bool,
    },
}

/// What copies of one process have reported: two copies for each way of learning of the restore.
#[derive(Clone, Debug)]
pub struct Copies {
    /// A source shows the restore.
    pub(super) seen: [Report; 2],
    /// No source does, and the program says so itself.
    pub(super) learned: [Report; 2],
    /// Nothing does.
    pub(super) unseen: [Report; 2],
    version: String,
}

impl Copies {
    /// Starts the program, has CRIU checkpoint it, and restores it six times.
    ///
    /// `criu` is the words of the command.
    ///
    /// # Errors
    ///
    /// If a step fails; then with what CRIU has logged.
    pub fn make(criu: &[OsString], program: &Program) -> Result<Self, Box<dyn Error>> {
        let dumped = Dumped::make(criu, program)?;
        // What the page shows is not taken back, so the restores that it does not show come first.
        let unseen = dumped.pair("report")?;
        let learned = dumped.pair("assume")?;
        dumped.change()?;
        let seen = dumped.pair("report")?;
        Ok(Self {
            seen,
            learned,
            unseen,
            version: dumped.criu.version()?,
        })
    }

    /// Whether this CRIU restores `MADV_WIPEONFORK`.
    pub(super) fn keeps_advice(&self) -> bool {
        let mut numbers = self.version.split('.').map(|number| number.parse().ok());
        let [major, minor] = [(); 2].map(|()| numbers.next().flatten().unwrap_or(0_u32));
        (major, minor) >= (4, 2)
    }
}

/// A program that CRIU has checkpointed.
pub(super) struct Dumped<'a> {
    folder: tempfile::TempDir,
    criu: Criu<'a>,
    page: PathBuf,
    _driver: sysgenid_broker::Background,
}

impl<'a> Dumped<'a> {
    pub(super) fn make(criu: &'a [OsString], program: &Program) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let criu = Criu {
            words: criu,
            images: folder.path().join("images"),
        };
        fs::create_dir(&criu.images)?;
        let page = folder.path().join("page");
        fs::write(&page, [0; 4096])?;
        let driver = sysgenid_broker::spawn(folder.path().join("driver"))?;

        // A copy has the process ids of the original, which are free once all of it has been waited for.
        set_child_subreaper(Some(getpid()))?;
        let mut original = Original(program.start(folder.path(), &page)?);
        original.wait_for(&folder.path().join("ready"))?;
        criu.run("dump", &["--tree", &original.0.id().to_string()])?;
        original.0.wait()?;
        while wait(WaitOptions::empty()).is_ok() {}
        Ok(Self {
            folder,
            criu,
            page,
            _driver: driver,
        })
    }

    /// Has the page show a restore, from now on.
    pub(super) fn change(&self) -> Result<(), Box<dyn Error>> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .open(&self.page)?;
        CounterPageMut::map(&file)?.store(1);
        Ok(())
    }

    /// Makes two copies, one after the other.
    pub(super) fn pair(&self, orders: &str) -> Result<[Report; 2], Box<dyn Error>> {
        let copy = || self.criu.restore(self.folder.path(), orders);
        Ok([copy()?, copy()?])
    }
}

impl Program {
    fn start(&self, folder: &Path, page: &Path) -> std::io::Result<Child> {
        let mut command = match self {
            Self::Rust => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("criu-subject").arg(folder);
                command
            }
            Self::Python(interpreter) => {
                let mut command = python(interpreter, "subject.py");
                command.arg(folder);
                command
            }
            Self::Service {
                interpreter,
                kind,
                protected,
            } => {
                let mut command = python(interpreter, "service.py");
                let protection = if *protected {
                    "protected"
                } else {
                    "unprotected"
                };
                command.arg(folder).args([kind, protection]);
                command
            }
        };
        // Nothing that this process has open must be there when it is restored.
        let command = command.env(SOURCE_VARIABLE, page);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::null()).current_dir("/").spawn()
    }
}

/// A script of this directory.
fn python(interpreter: &Path, script: &str) -> Command {
    let mut command = Command::new(interpreter);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/criu");
    command.arg(folder.join(script));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The process that is copied. Dropping it kills it.
struct Original(Child);

impl Original {
    fn wait_for(&mut self, file: &Path) -> Result<(), Box<dyn Error>> {
        let start = Instant::now();
        while !file.exists() {
            if let Some(status) = self.0.try_wait()? {
                return Err(format!("it ended with {status}").into());
            }
            if start.elapsed() > PATIENCE {
                return Err("it did not get ready".into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Original {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Criu<'a> {
    words: &'a [OsString],
    images: PathBuf,
}

impl Criu<'_> {
    fn command(&self) -> Result<Command, Box<dyn Error>> {
        let (program, words) = self.words.split_first().ok_or("no command for CRIU")?;
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null());
        Ok(command)
    }

    fn version(&self) -> Result<String, Box<dyn Error>> {
        let output = self.command()?.arg("--version").output()?;
        let text = String::from_utf8(output.stdout)?;
        let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
        Ok(version.ok_or("CRIU has no version")?.trim().to_owned())
    }

    fn run(&self, task: &str, arguments: &[&str]) -> Result<(), Box<dyn Error>> {
        let log = format!("{task}.log");
        let mut command = self.command()?;
        command.arg(task).args(arguments);
        command.arg("--images-dir").arg(&self.images);
        command.args(["--manage-cgroups=ignore", "-v4", "--log-file", &log]);
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        let log = fs::read_to_string(self.images.join(log)).unwrap_or_default();
        let errors: Vec<_> = log.lines().filter(|line| line.contains("Error")).collect();
        Err(format!(
            "criu {task} ended with {}: {}",
            output.status,
            errors.join("; ")
        )
        .into())
    }

    /// Makes a copy, waits until it ends, and returns what it has reported.
    fn restore(&self, folder: &Path, orders: &str) -> Result<Report, Box<dyn Error>> {
        // It finds them where it waits for them.
        fs::write(folder.join("orders"), format!("{orders}\n"))?;
        let report = folder.join("report");
        self.run("restore", &[])?;
        let text = fs::read_to_string(&report)?;
        fs::remove_file(report)?;
        Report::parse(&text)
    }
}
