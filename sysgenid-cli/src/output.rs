// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Standard output: text for people, or JSON with one object per line.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use sysgenid::{Backend, Printable, SourceKind};

use crate::failure::Failure;

pub(crate) struct Output {
    json: bool,
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints the object, or the text that says the same.
    pub(crate) fn print(
        &mut self,
        object: &impl Serialize,
        text: impl Display,
    ) -> Result<(), Failure> {
        self.object(object)?;
        self.text(text)
    }

    /// Prints what people are told on standard error instead.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        if !self.json {
            return Ok(());
        }
        let line =
            serde_json::to_string(object).map_err(|error| Failure::call("writing JSON", error))?;
        line_out(ascii_where_invisible(&line))
    }

    /// Prints what has no place in JSON: explanations.
    pub(crate) fn text(&mut self, text: impl Display) -> Result<(), Failure> {
        if self.json { Ok(()) } else { line_out(text) }
    }
}

/// A path in JSON: the text, which is the path itself if that is UTF-8, and else the text to show it
/// by and its bytes.
pub(crate) fn path_in_json(path: &Path) -> (String, Option<&[u8]>) {
    match path.to_str() {
        Some(text) => (text.into(), None),
        None => {
            let bytes = path.as_os_str().as_bytes();
            (Printable::new(path).to_string(), Some(bytes))
        }
    }
}

/// The same JSON, safe to print: characters that are not shown can only be within its strings, where
/// JSON has an escape for them.
fn ascii_where_invisible(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for character in json.chars() {
        if character == '\\' || Printable::shows(character) {
            line.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                line += &format!("\\u{unit:04x}");
            }
        }
    }
    line
}

/// Each line leaves at once: somebody may be waiting for it.
fn line_out(line: impl Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")
        .and_then(|()| stdout.flush())
        .map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::call("standard output", error),
        })
}

/// The same for people.
pub(crate) fn kind_text(kind: SourceKind) -> &'static str {
    match kind {
        SourceKind::Device => "kernel driver",
        SourceKind::Broker => "userspace driver",
        SourceKind::PageFile => "page file",
        SourceKind::Vmgenid => "the hypervisor's counter",
        SourceKind::Vmclock => "the hypervisor's clock",
        _ => "another kind of source",
    }
}

/// What a backend is, for people.
pub(crate) fn backend_text(backend: Backend) -> &'static str {
    match backend {
        Backend::Vmfork => "the kernel announces restores",
        Backend::Acpi => "the hypervisor announces restores",
        Backend::Trigger => "nobody announces restores: whoever restores runs `sysgenid trigger`",
        _ => "another way",
    }
}
