// SPDX-License-Identifier: Apache-2.0 OR MIT
//! gVisor's file, which tells a container of its checkpoints.
//!
//! A read blocks until the sandbox is checkpointed and goes on, and returns `restore`, `resume` or
//! `error`. It must be opened again for the next. gVisor's own process draws random bytes from the
//! host and keeps none, so they are new after a restore without any wait.
//!
//! **Not guaranteed:** a checkpoint between a read and the next opening is not seen.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access};

const PATH: &str = "/proc/gvisor/checkpoint";
/// So many reads in a [`SPELL`] do not block.
const MOST: u32 = 1000;
const SPELL: Duration = Duration::from_secs(1);

/// What a read has said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Restored,
    /// The sandbox goes on after its checkpoint, and is no copy.
    Resumed,
    /// Anything else, which may be a restore.
    Unclear,
}

/// The file, which is there and may be read.
pub(super) struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    pub(super) fn find() -> Result<Self, String> {
        Self::find_at(Path::new(PATH))
    }

    pub(super) fn find_at(path: &Path) -> Result<Self, String> {
        // Not opened: that may block already.
        access(path, Access::READ_OK).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path: path.into() })
    }

    /// Reads for as long as `tell` wants to know. It blocks, so it takes a thread of its own, which
    /// nothing can end but the end of the process.
    pub(super) fn follow(&self, mut tell: impl FnMut(Said) -> bool) -> Result<(), String> {
        let mut spell = (Instant::now(), 0);
        loop {
            let said = self
                .read()
                .map_err(|error| format!("{}: {error}", self.path.display()))?;
            if !tell(said) {
                return Ok(());
            }
            if spell.0.elapsed() > SPELL {
                spell = (Instant::now(), 0);
            }
            spell.1 += 1;
            if spell.1 > MOST {
                return Err(format!("{}: reads do not block", self.path.display()));
            }
        }
    }

    fn read(&self) -> io::Result<Said> {
        let mut said = [0; 64];
        let mut file = File::open(&self.path)?;
        let length = loop {
            match file.read(&mut said) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let said = said.get(..length).unwrap_or_default();
        Ok(match said.trim_ascii() {
            b"" => return Err(io::ErrorKind::UnexpectedEof.into()),
            b"restore" => Said::Restored,
            b"resume" => Said::Resumed,
            _ => Said::Unclear,
        })
    }
}
