// SPDX-License-Identifier: Apache-2.0 OR MIT
//! QEMU's monitor: enough of it to take a snapshot.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Context, Error, Result};

const REPLY: Duration = Duration::from_secs(30);
const MIGRATION: Duration = Duration::from_secs(60);

pub(crate) struct Qmp {
    stream: BufReader<UnixStream>,
}

impl Qmp {
    pub(crate) fn new(stream: UnixStream) -> Result<Self> {
        stream
            .set_read_timeout(Some(REPLY))
            .context(|| "QEMU's monitor")?;
        let mut qmp = Self {
            stream: BufReader::new(stream),
        };
        let greeting = qmp.receive()?;
        if greeting.get("QMP").is_none() {
            return Err(Error::new(format!("QEMU's monitor greets with {greeting}")));
        }
        qmp.execute("qmp_capabilities", &json!({}))?;
        Ok(qmp)
    }

    /// Writes the guest to a file, relative to QEMU's working folder, and leaves it stopped.
    pub(crate) fn migrate_to(&mut self, file: &str) -> Result<()> {
        self.execute("migrate", &json!({ "uri": format!("exec:cat > {file}") }))?;
        self.await_migration()
    }

    fn await_migration(&mut self) -> Result<()> {
        let deadline = Instant::now() + MIGRATION;
        while Instant::now() < deadline {
            let state = self.execute("query-migrate", &json!({}))?;
            match state.get("status").and_then(Value::as_str) {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => {
                    return Err(Error::new(format!("the snapshot failed: {state}")));
                }
                _ => sleep(Duration::from_millis(50)),
            }
        }
        Err(Error::new(format!(
            "the snapshot took more than {MIGRATION:?}"
        )))
    }

    /// Leaves memory that is a file out of snapshots: the file is its snapshot.
    pub(crate) fn ignore_shared_memory(&mut self) -> Result<()> {
        let capability = json!({ "capability": "x-ignore-shared", "state": true });
        let capabilities = json!({ "capabilities": [capability] });
        self.execute("migrate-set-capabilities", &capabilities)
            .map(drop)
    }

    /// Reads a snapshot into a machine that was started to wait for one, and leaves it stopped.
    pub(crate) fn migrate_from(&mut self, file: &str) -> Result<()> {
        let uri = json!({ "uri": format!("exec:cat {file}") });
        self.execute("migrate-incoming", &uri)?;
        self.await_migration()
    }

    /// A command of the monitor for people.
    pub(crate) fn monitor(&mut self, line: &str) -> Result<()> {
        let command = json!({ "command-line": line });
        self.execute("human-monitor-command", &command).map(drop)
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        self.execute("stop", &json!({})).map(drop)
    }

    /// Lets a machine that stands still run.
    pub(crate) fn cont(&mut self) -> Result<()> {
        self.execute("cont", &json!({})).map(drop)
    }

    /// Waits until a machine that starts from a snapshot has read it. What is sent to its serial
    /// port before is lost.
    pub(crate) fn await_start(&mut self) -> Result<()> {
        let deadline = Instant::now() + MIGRATION;
        while Instant::now() < deadline {
            let state = self.execute("query-status", &json!({}))?;
            if state
                .get("status")
                .is_some_and(|status| status == "running")
            {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        Err(Error::new(format!(
            "the snapshot was not read within {MIGRATION:?}"
        )))
    }

    pub(crate) fn quit(&mut self) -> Result<()> {
        self.execute("quit", &json!({})).map(drop)
    }

    fn execute(&mut self, command: &str, arguments: &Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        // In one piece: QEMU obeys what is complete, and after "quit" nobody reads the end of the line.
        let line = format!("{request}\n");
        let stream = self.stream.get_mut();
        stream
            .write_all(line.as_bytes())
            .context(|| "QEMU's monitor")?;
        loop {
            let mut reply = self.receive()?;
            if let Some(error) = reply.get("error") {
                return Err(Error::new(format!("QEMU refuses {command}: {error}")));
            }
            // What else comes in between are events.
            if let Some(value) = reply.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    fn receive(&mut self) -> Result<Value> {
        let mut line = String::new();
        self.stream
            .read_line(&mut line)
            .context(|| "QEMU's monitor")?;
        serde_json::from_str(&line).context(|| format!("QEMU's monitor said {line:?}"))
    }
}
