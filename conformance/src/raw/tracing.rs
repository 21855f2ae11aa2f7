// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The tracepoints: what changed the generation, and who acknowledged it, in the order of time.

use std::fs;
use std::path::{Path, PathBuf};

use super::Node;
use crate::cases;

cases! { Node;
    tracepoint_tells_of_a_change,
    tracepoint_tells_of_an_acknowledgement,
    tracepoints_are_silent_when_nothing_happens,
}

/// Which generation, why, and for how many tracked watchers it is news.
fn tracepoint_tells_of_a_change(node: &Node) {
    let trace = Trace::start(&["sysgenid_bump"]);
    let tracked = node.number("tracked_watchers");
    let trigger = node.open();
    trigger.ensure_tracked();
    trigger.trigger(0).expect("root may trigger");
    let generation = node.generation();
    assert_eq!(
        trace.lines(),
        [format!(
            "sysgenid_bump: generation={generation} cause=trigger tracked={}",
            tracked + 1
        )]
    );
}

/// Which one, and whether anybody waited for it. One that is refused is none.
fn tracepoint_tells_of_an_acknowledgement(node: &Node) {
    let watcher = node.open_straggler();
    let trace = Trace::start(&["sysgenid_ack"]);
    let generation = node.generation();
    watcher
        .acknowledge(generation.wrapping_sub(1))
        .expect_err("it is stale");
    watcher.acknowledge(generation).expect("it is current");
    assert_eq!(
        trace.lines(),
        [format!("sysgenid_ack: generation={generation} tracked=1")]
    );
}

/// Opening, reading, polling, mapping and closing are no news.
fn tracepoints_are_silent_when_nothing_happens(node: &Node) {
    let outdated = node.open_straggler();
    let trace = Trace::start(&["sysgenid_bump", "sysgenid_ack"]);
    let watcher = node.open();
    assert!(!watcher.is_outdated());
    outdated.read().expect("it is outdated");
    node.generation();
    drop((watcher, outdated));
    assert_eq!(trace.lines(), [""; 0]);
}

/// A trace of some events, in a buffer of its own. Dropping it turns them off.
struct Trace {
    folder: PathBuf,
}

impl Trace {
    fn start(events: &[&str]) -> Self {
        let tracing = Path::new("/sys/kernel/tracing");
        if !tracing.join("events").exists() {
            mount(tracing);
        }
        let folder = tracing.join(format!("instances/conformance-{}", events.join("-")));
        fs::create_dir(&folder).expect("a trace can be begun");
        let trace = Self { folder };
        for event in events {
            let enable = trace.folder.join(format!("events/sysgenid/{event}/enable"));
            let enabled = fs::write(&enable, "1");
            enabled.unwrap_or_else(|error| panic!("{}: {error}", enable.display()));
        }
        trace
    }

    /// What was traced, each without the task and the time.
    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.join("trace")).expect("the trace can be read");
        text.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| match line.find("sysgenid_") {
                Some(start) => line[start..].to_owned(),
                None => line.to_owned(),
            })
            .collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.folder) {
            println!("# {}: {error}", self.folder.display());
        }
    }
}

fn mount(tracing: &Path) {
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("tracefs", tracing, "tracefs", flags, None)
        .expect("a kernel with tracing");
}
