// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a watch prints.

use std::borrow::Cow;
use std::path::Path;

use serde::Serialize;
use sysgenid::{Cause, Generation, Printable};

use crate::output::{cause_text, path_in_json};
use crate::time::now;

/// A line of JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub(super) enum Line<'a> {
    Watching {
        time: String,
        /// `None` while there is no source.
        generation: Option<u64>,
        source: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        source_bytes: Option<&'a [u8]>,
        tracked: bool,
    },
    Changed {
        time: String,
        generation: u64,
        /// `None` if it was not known.
        previous: Option<u64>,
        cause: Cow<'a, str>,
    },
    /// A command that was to handle it has failed.
    Failed {
        time: String,
        generation: u64,
        reason: String,
    },
}

impl<'a> Line<'a> {
    pub(super) fn watching(
        generation: Option<Generation>,
        source: Option<&'a Path>,
        tracked: bool,
    ) -> Self {
        let (source, source_bytes) = source.map(path_in_json).unzip();
        Self::Watching {
            time: now().to_string(),
            generation: generation.map(Generation::get),
            source,
            source_bytes: source_bytes.flatten(),
            tracked,
        }
    }

    pub(super) fn changed(
        generation: Generation,
        previous: Option<Generation>,
        cause: Option<Cause>,
    ) -> Self {
        Self::Changed {
            time: now().to_string(),
            generation: generation.get(),
            previous: previous.map(Generation::get),
            cause: cause_text(cause),
        }
    }

    pub(super) fn failed(generation: Generation, reason: String) -> Self {
        Self::Failed {
            time: now().to_string(),
            generation: generation.get(),
            reason,
        }
    }

    /// The same for people.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Watching {
                generation, source, ..
            } => match (generation, source) {
                (Some(generation), Some(source)) => format!(
                    "sysgenid: generation {generation}: watching {}",
                    Printable::new(source)
                ),
                _ => "sysgenid: watching; there is no source yet".into(),
            },
            Self::Changed {
                time,
                generation,
                cause,
                ..
            } if cause == "unknown" => format!("{time} generation {generation}: changed"),
            Self::Changed {
                time,
                generation,
                cause,
                ..
            } => format!("{time} generation {generation}: changed ({cause})"),
            Self::Failed {
                time,
                generation,
                reason,
            } => format!("{time} generation {generation}: not acknowledged: {reason}"),
        }
    }
}
