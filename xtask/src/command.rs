// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Running programs, with errors that name them.

use std::fs::{File, TryLockError};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::error::{Context, Error, Result};

fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Runs a command whose output a person should see.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .context(|| format!("cannot run `{}`", describe(command)))?;
    if status.success() {
        return Ok(());
    }
    Err(Error::new(format!(
        "`{}` failed with {status}",
        describe(command)
    )))
}

/// Runs a command for what it prints; its errors become part of ours.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    String::from_utf8(bytes(command)?).context(|| format!("output of `{}`", describe(command)))
}

/// The same where it does not print text.
pub(crate) fn bytes(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .context(|| format!("cannot run `{}`", describe(command)))?;
    if !output.status.success() {
        return Err(Error::new(format!(
            "`{}` failed with {}: {}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    }
    Ok(output.stdout)
}

/// Runs a command, passes its standard output on as it comes, and shows each line to `watch`.
///
/// Returns whether it succeeded: a test runner that reports failures is not an error here.
pub(crate) fn tee(command: &mut Command, mut watch: impl FnMut(&str)) -> Result<bool> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context(|| format!("cannot run `{}`", describe(command)))?;
    if let Some(stdout) = child.stdout.take() {
        // Bytes, because a test may print what is not UTF-8.
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context(|| format!("reading the output of `{}`", describe(command)))?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            watch(&line);
        }
        std::io::stdout().flush().context(|| "standard output")?;
    }
    let status = child
        .wait()
        .context(|| format!("waiting for `{}`", describe(command)))?;
    Ok(status.success())
}

/// How long the output of a program that has ended may be silent before it is over.
const SILENCE: Duration = Duration::from_secs(2);

/// As `tee`, for both streams in the order in which the program writes. Returns how it ended.
///
/// What the program leaves running may hold the streams open. Nothing waits for that.
pub(crate) fn tee_both(command: &mut Command, mut watch: impl FnMut(&str)) -> Result<ExitStatus> {
    let description = describe(command);
    let cannot = || format!("cannot run `{description}`");
    let (reader, writer) = std::io::pipe().context(cannot)?;
    command.stdin(Stdio::null());
    command.stdout(writer.try_clone().context(cannot)?);
    let child = command.stderr(writer).spawn();
    // They would hold the streams open here.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.context(cannot)?;
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(reader).split(b'\n') {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    loop {
        match lines.recv_timeout(SILENCE) {
            Ok(line) => {
                let line = line.context(|| format!("reading the output of `{description}`"))?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                watch(&line);
            }
            Err(RecvTimeoutError::Timeout) => {
                let ended = child.try_wait().context(|| "waiting for a program")?;
                if ended.is_some() {
                    break;
                }
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    std::io::stdout().flush().context(|| "standard output")?;
    child
        .wait()
        .context(|| format!("waiting for `{description}`"))
}

/// Where `program` is on the PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// Makes a folder anew, empty.
pub(crate) fn fresh_dir(path: &Path) -> Result<()> {
    if path.exists() {
        std::fs::remove_dir_all(path).context(|| format!("cannot remove {}", path.display()))?;
    }
    std::fs::create_dir_all(path).context(|| format!("cannot create {}", path.display()))
}

/// Waits until no other process holds the lock on the file, which stands for its directory.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let cannot = || format!("cannot lock {}", path.display());
    let file = File::create(path).context(cannot)?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error).context(cannot),
    }
    eprintln!(
        "xtask: waiting for another xtask, which holds {}",
        path.display()
    );
    file.lock().context(cannot)?;
    Ok(file)
}

/// All files in a folder and in those below it, in the order of their paths.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot list {}", folder.display());
    let mut files = Vec::new();
    for entry in folder.read_dir().context(cannot)? {
        let entry = entry.context(cannot)?;
        if entry.file_type().context(cannot)?.is_dir() {
            files.extend(self::files(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Copies a directory with everything in it.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).context(|| format!("cannot create {}", to.display()))?;
    let entries = from
        .read_dir()
        .context(|| format!("cannot list {}", from.display()))?;
    for entry in entries {
        let entry = entry.context(|| format!("cannot list {}", from.display()))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy_dir(&source, &target)?;
        } else {
            std::fs::copy(&source, &target)
                .context(|| format!("cannot copy {} to {}", source.display(), target.display()))?;
        }
    }
    Ok(())
}
