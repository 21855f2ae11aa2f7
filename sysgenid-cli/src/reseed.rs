// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid reseed`: renews the kernel's entropy.

use std::fs::File;
use std::io::{IsTerminal, stdin};
use std::path::Path;

use serde::Serialize;
use sysgenid::Printable;
use sysgenid_agent::entropy::{self, Reseeded, Secret};

use crate::args::{EntropyArgs, ReseedArgs};
use crate::failure::Failure;
use crate::output::Output;

#[derive(Serialize)]
struct Line<'a> {
    reseeded: &'a [String],
}

pub(crate) fn run(args: &ReseedArgs) -> Result<(), Failure> {
    let reseeded = reseed(&args.entropy)?;
    let line = Line {
        reseeded: reseeded.origins(),
    };
    let text = text(&reseeded);
    Output::new(args.format.json).print(&line, text)
}

pub(crate) fn text(reseeded: &Reseeded) -> String {
    format!(
        "the kernel's entropy is new, with bytes of {}",
        reseeded.origins().join(" and ")
    )
}

/// Renews the kernel's entropy with the bytes that are given, or with the machine's.
pub(crate) fn reseed(args: &EntropyArgs) -> Result<Reseeded, Failure> {
    let secret = match &args.entropy {
        None => Secret::of_this_machine()?,
        Some(path) if path.as_os_str() == "-" => from_input()?,
        Some(path) => from_file(path)?,
    };
    Ok(entropy::reseed(secret)?)
}

fn from_input() -> Result<Secret, Failure> {
    let input = stdin();
    if input.is_terminal() {
        let message =
            "--entropy -: standard input is a terminal; redirect it from what has the bytes";
        return Err(Failure::Usage(message.into()));
    }
    // Not through the library's buffer, which is never wiped.
    let file = rustix::io::dup(&input)
        .map(File::from)
        .map_err(|error| Failure::call("standard input", error))?;
    Ok(Secret::read(file, "standard input")?)
}

fn from_file(path: &Path) -> Result<Secret, Failure> {
    let name = Printable::new(path).to_string();
    Ok(Secret::open(path, &name)?)
}
