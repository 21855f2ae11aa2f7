// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Standard output: text for people, or JSON with one object per line.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::Serialize;
use sysgenid::{Backend, Cause, Printable, SourceKind};

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
        match self.json_of(object) {
            Some(line) => line_out(line?),
            None => Ok(()),
        }
    }

    /// The object as it is printed; `None` if text is asked for.
    pub(crate) fn json_of(&self, object: &impl Serialize) -> Option<Result<String, Failure>> {
        self.json.then(|| {
            let line = serde_json::to_string(object);
            line.map(|line| ascii_where_invisible(&line))
                .map_err(|error| Failure::call("writing JSON", error))
        })
    }

    /// Prints what has no place in JSON: explanations.
    pub(crate) fn text(&mut self, text: impl Display) -> Result<(), Failure> {
        if self.json { Ok(()) } else { line_out(text) }
    }
}

/// The line for standard error, in JSON.
pub(crate) fn failure_in_json(message: &str, code: u8) -> String {
    let object = serde_json::json!({"error": message, "code": code});
    ascii_where_invisible(&object.to_string())
}

/// Why the generation changed, in JSON, in an environment variable and for people.
pub(crate) fn cause_text(cause: Option<Cause>) -> Cow<'static, str> {
    match cause {
        Some(Cause::Restore) => "restore".into(),
        Some(Cause::Trigger) => "trigger".into(),
        Some(Cause::Other(number)) => format!("cause {number}").into(),
        // There may be one that this command does not know yet.
        Some(_) | None => "unknown".into(),
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
