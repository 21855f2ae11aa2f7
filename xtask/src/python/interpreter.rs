// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The Pythons that the machine has.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::{Context, Error, Result};

/// The oldest that the package supports. `requires-python` in pyproject.toml says so, too.
const OLDEST: Version = Version(3, 10);

/// Versions that are looked for by name. `python3` may be one of them or another.
const NAMED: std::ops::RangeInclusive<u32> = 10..=19;

/// What an interpreter is asked: where the one behind links and wrappers is, its version, whether it
/// is free-threaded, and whether it can make virtual environments.
const QUESTIONS: &str = "\
import importlib.util, sys, sysconfig
print(sys.executable)
print(*sys.version_info[:2])
print(int(sysconfig.get_config_var('Py_GIL_DISABLED') or 0))
print(int(all(map(importlib.util.find_spec, ('venv', 'ensurepip')))))";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32);

/// A Python of the machine that is new enough.
#[derive(Clone, Debug)]
pub(crate) struct Interpreter {
    pub(crate) program: PathBuf,
    pub(crate) version: Version,
    pub(crate) free_threaded: bool,
    makes_venvs: bool,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Interpreter {
    /// None, if it is none, is too old, or does not start.
    pub(super) fn ask(program: &Path) -> Option<Self> {
        // Not in its folder: what lies there must not stand in for a module.
        let mut question = Command::new(program);
        let answers = command::output(question.args(["-I", "-c", QUESTIONS])).ok()?;
        Self::parse(&answers).filter(|interpreter| interpreter.version >= OLDEST)
    }

    fn parse(answers: &str) -> Option<Self> {
        let mut lines = answers.lines();
        let program = lines.next()?.into();
        let (major, minor) = lines.next()?.split_once(' ')?;
        Some(Self {
            program,
            version: Version(major.parse().ok()?, minor.parse().ok()?),
            free_threaded: lines.next()? == "1",
            makes_venvs: lines.next()? == "1",
        })
    }

    /// The name of its folder in ours, and in what is printed: as its program is called.
    pub(crate) fn name(&self) -> String {
        let suffix = if self.free_threaded { "t" } else { "" };
        format!("python{}{suffix}", self.version)
    }
}

/// All that there are, one for each version, the oldest first; beside the one that is used for
/// whatever is done once.
pub(crate) struct Interpreters {
    pub(crate) main: Interpreter,
    pub(crate) all: Vec<Interpreter>,
}

impl Interpreters {
    pub(crate) fn find() -> Result<Self> {
        let mut all: Vec<Interpreter> = Vec::new();
        for found in candidates()
            .iter()
            .filter_map(|path| Interpreter::ask(path))
        {
            let is_same = |other: &Interpreter| other.name() == found.name();
            if !all.iter().any(is_same) {
                all.push(found);
            }
        }
        // The first, if it can be: the one that is called python3.
        let main = all.iter().find(|it| !it.free_threaded).cloned();
        let main = main.context(|| {
            format!(
                "no Python {OLDEST} or newer: install it, on Debian `python3` and `python3-venv`"
            )
        })?;
        if !main.makes_venvs {
            return Err(Error::new(format!(
                "{} cannot make virtual environments: install what it lacks, on Debian `python3-venv`",
                main.program.display()
            )));
        }
        all.retain(|interpreter| interpreter.makes_venvs);
        all.sort_by_key(|interpreter| (interpreter.version, interpreter.free_threaded));
        Ok(Self { main, all })
    }

    /// Those that the wheel for all versions is tested with: the main one, the oldest and the newest.
    pub(crate) fn for_the_wheel(&self) -> Vec<&Interpreter> {
        let mut ordinary: Vec<_> = self.all.iter().filter(|it| !it.free_threaded).collect();
        let newest = ordinary.last().map(|it| it.version);
        let oldest = ordinary.first().map(|it| it.version);
        let wanted = [oldest, newest, Some(self.main.version)];
        ordinary.retain(|it| wanted.contains(&Some(it.version)));
        ordinary
    }

    /// Those that need a wheel of their own.
    pub(crate) fn free_threaded(&self) -> impl Iterator<Item = &Interpreter> {
        self.all
            .iter()
            .filter(|interpreter| interpreter.free_threaded)
    }
}

/// Programs that may be Pythons: those on the PATH, and those that pyenv keeps beside it.
fn candidates() -> Vec<PathBuf> {
    let named = NAMED.flat_map(|minor| [format!("python3.{minor}"), format!("python3.{minor}t")]);
    let names = ["python3".to_owned()].into_iter().chain(named);
    let mut found: Vec<_> = names.filter_map(|name| command::find(&name)).collect();
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".pyenv")));
    let versions = root.and_then(|root| root.join("versions").read_dir().ok());
    let mut kept: Vec<_> = versions
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin/python3")))
        .filter(|program| program.is_file())
        .collect();
    kept.sort();
    found.append(&mut kept);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpreter(minor: u32, free_threaded: bool) -> Interpreter {
        Interpreter {
            program: format!("/usr/bin/python3.{minor}").into(),
            version: Version(3, minor),
            free_threaded,
            makes_venvs: true,
        }
    }

    #[test]
    fn answers_are_read() {
        let found = Interpreter::parse("/usr/bin/python3\n3 14\n1\n0\n").unwrap();
        assert_eq!(found.program, Path::new("/usr/bin/python3"));
        assert_eq!(
            (found.version, found.name().as_str()),
            (Version(3, 14), "python3.14t")
        );
        assert!(found.free_threaded && !found.makes_venvs);
        assert!(Interpreter::parse("3 14").is_none());
        assert!(Version(3, 9) < OLDEST);
    }

    #[test]
    fn the_wheel_meets_the_oldest_the_newest_and_the_main_one() {
        let names = |interpreters: &Interpreters| {
            let chosen = interpreters.for_the_wheel();
            chosen.iter().map(|it| it.name()).collect::<Vec<_>>()
        };
        let all = [
            (10, false),
            (11, false),
            (12, false),
            (13, false),
            (14, true),
        ];
        let all = all.map(|(minor, free)| interpreter(minor, free)).to_vec();
        let main = interpreter(11, false);
        let many = Interpreters {
            main: main.clone(),
            all,
        };
        assert_eq!(names(&many), ["python3.10", "python3.11", "python3.13"]);
        assert_eq!(many.free_threaded().count(), 1);
        let one = Interpreters {
            all: vec![main.clone()],
            main,
        };
        assert_eq!(names(&one), ["python3.11"]);
    }
}
