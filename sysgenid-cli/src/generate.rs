// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What packages install beside the command: man pages, and completions for shells.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Cli;
use crate::failure::Failure;

const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

pub(crate) fn run(directory: &Path) -> Result<(), Failure> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(Failure::io(directory, "creating the directory", &error));
        }
        _ => {}
    }
    write(directory).map_err(|error| Failure::io(directory, "writing into it", &error))
}

fn write(directory: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), directory)?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut Cli::command(), "sysgenid", directory)?;
    }
    Ok(())
}
