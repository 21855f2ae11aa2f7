// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid status`: what there is.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;
use sysgenid::Source;

use crate::failure::Failure;
use crate::output::{Output, kind_name, kind_text};

/// How long the userspace driver may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Line<'a> {
    source: Cow<'a, str>,
    kind: &'static str,
    generation: u32,
    watchers: Option<u32>,
    tracked: Option<u32>,
    outdated: Option<u32>,
}

pub(crate) fn run(source: &Source, out: &mut Output) -> Result<(), Failure> {
    let status = source.status(ANSWER_TIME)?;
    let counts = status.watchers;
    let path = source.path().to_string_lossy();
    let watchers = match counts {
        Some(counts) => format!(
            "{}, {} of them tracked, {} of these outdated",
            counts.total, counts.tracked, counts.outdated
        ),
        None => "not told by this source".into(),
    };
    let text = format!(
        "source      {path} ({})\ngeneration  {}\nwatchers    {watchers}",
        kind_text(source.kind()),
        status.generation,
    );
    let line = Line {
        source: path,
        kind: kind_name(source.kind()),
        generation: status.generation.get(),
        watchers: counts.map(|counts| counts.total),
        tracked: counts.map(|counts| counts.tracked),
        outdated: counts.map(|counts| counts.outdated),
    };
    out.print(&line, text)
}
