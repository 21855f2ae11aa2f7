// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `sysgenid status`: what there is.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use sysgenid::{
    Backend, BrokerStatus, Cause, Dialect, Error, Followers, Generation, Printable, Probe, Source,
};

use crate::failure::Failure;
use crate::output::{Output, backend_text, kind_text, path_in_json};
use crate::time::shown;

/// How long the userspace driver may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(5);

#[derive(Serialize)]
struct Line<'a> {
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_bytes: Option<&'a [u8]>,
    kind: &'static str,
    /// A counter of the hypervisor's that the whole process looks at as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside_bytes: Option<&'a [u8]>,
    generation: u64,
    /// Whether the driver answers. If it does not, the rest is what it has left behind.
    running: bool,
    watchers: Option<u32>,
    tracked: Option<u32>,
    outdated: Option<u32>,
    dialect: Option<&'static str>,
    backend: Option<&'static str>,
    #[serde(flatten)]
    broker: Option<BrokerLine>,
}

/// What only a broker tells.
#[derive(Serialize)]
struct BrokerLine {
    followers: Vec<String>,
    failed: Vec<String>,
    cause: Option<String>,
    changed: Option<String>,
}

impl BrokerLine {
    fn new(broker: &BrokerStatus) -> Self {
        let names = |followers: Followers| followers.each().map(|one| one.to_string()).collect();
        Self {
            followers: names(broker.followers),
            failed: names(broker.failed),
            cause: broker.cause.map(|cause| cause.to_string()),
            changed: broker.changed.map(|time| shown(time).to_string()),
        }
    }

    /// The same for people.
    fn text(&self, broker: &BrokerStatus) -> String {
        let mut text = format!("\nfollowers   {}", broker.followers);
        if broker.followers.is_empty() {
            text += ": whoever restores runs `sysgenid trigger`";
        }
        if !broker.failed.is_empty() {
            let _ = write!(
                text,
                "\nfailed      {}: restart `sysgenid serve`",
                broker.failed
            );
        }
        if let Some(cause) = broker.cause {
            let when = self.changed.as_deref().unwrap_or("at an unknown time");
            let _ = write!(text, "\nchanged     {when}: {}", cause_text(cause));
        }
        text
    }
}

fn cause_text(cause: Cause) -> Cow<'static, str> {
    match cause {
        Cause::EntropyUnknown => "restored, and whether the kernel's entropy is new is not known: \
                                   run `sysgenid trigger --reseed`"
            .into(),
        Cause::Possible => {
            "perhaps restored: the driver missed what would have announced it".into()
        }
        Cause::Restore => "restored, and the kernel's entropy is new".into(),
        Cause::Trigger => "triggered".into(),
        cause => cause.to_string().into(),
    }
}

pub(crate) fn run(named: Option<PathBuf>, out: &mut Output) -> Result<(), Failure> {
    let (source, beside) = match named {
        Some(path) => (Source::at(path)?, None),
        None => {
            let source = Source::discover_for_probe()?;
            let beside = sysgenid::protection()
                .sources()
                .find(|other| **other != source);
            (source, beside)
        }
    };
    let (generation, status, silent) = match source.status(ANSWER_TIME) {
        Ok(status) => (status.generation, Some(status), None),
        Err(error) => match last_known(&source, &error) {
            Some(generation) => (generation, None, Some(error)),
            None => return Err(error.into()),
        },
    };
    let counts = status.as_ref().and_then(|status| status.watchers);
    let dialect = status.as_ref().and_then(|status| status.dialect);
    let backend = status.as_ref().and_then(|status| status.backend);
    let path = Printable::new(source.path());
    let watchers = match (&status, counts) {
        (_, Some(counts)) => format!(
            "{}, {} of them tracked, {} of these outdated",
            counts.total, counts.tracked, counts.outdated
        ),
        (Some(_), None) => "not told by this source".into(),
        (None, None) => "not known".into(),
    };
    let mut text = format!(
        "source      {path} ({})\ngeneration  {}\nwatchers    {watchers}",
        kind_text(source.kind()),
        match silent {
            None => generation.to_string(),
            Some(_) => format!("{generation}, as it was left; the driver does not answer"),
        },
    );
    if let Some(beside) = beside {
        let path = Printable::new(beside.path());
        let _ = write!(text, "\nbeside it   {path} ({})", kind_text(beside.kind()));
    }
    if let Some(dialect) = dialect {
        let _ = write!(text, "\ndialect     {}", dialect.name());
    }
    if let Some(backend) = backend {
        let _ = write!(text, "\nbackend     {backend} ({})", backend_text(backend));
    }
    let broker = status
        .as_ref()
        .and_then(|status| status.broker)
        .map(|broker| {
            let line = BrokerLine::new(&broker);
            text += &line.text(&broker);
            line
        });
    let (source_text, source_bytes) = path_in_json(source.path());
    let beside = beside.map(|beside| path_in_json(beside.path())).unzip();
    let line = Line {
        source: source_text,
        source_bytes,
        kind: source.kind().name(),
        beside: beside.0,
        beside_bytes: beside.1.flatten(),
        generation: generation.get(),
        running: silent.is_none(),
        watchers: counts.map(|counts| counts.total),
        tracked: counts.map(|counts| counts.tracked),
        outdated: counts.map(|counts| counts.outdated),
        dialect: dialect.map(Dialect::name),
        backend: backend.map(Backend::name),
        broker,
    };
    out.print(&line, text)?;
    silent.map_or(Ok(()), |error| Err(error.into()))
}

/// The generation of a userspace driver that has ended or hangs: its page can still be read.
fn last_known(source: &Source, error: &Error) -> Option<Generation> {
    if !error.is_lost() && !error.is_timeout() {
        return None;
    }
    let probe = Probe::open_on(source.clone()).ok()?;
    Some(probe.generation())
}
