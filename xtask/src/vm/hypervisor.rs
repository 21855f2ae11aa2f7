// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Machines whose host does what a hypervisor does and QEMU does not: it writes to pages of the
//! guest's memory that the guest's kernel leaves alone, and into a clone before that runs.
//!
//! The memory of such a machine is a [file](Ram). A snapshot is that file and a small stream with
//! the rest; each clone gets a copy of both.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::agent::{Agent, Message};
use super::qemu::{Config, Machine};
use super::ram::Ram;
use super::suites::{Findings, Listener};
use super::{Kernel, Tools, Vm};
use crate::error::Result;

const TIMEOUT: Duration = Duration::from_secs(600);

/// How long a clone may take to say all that it should.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long a machine must stay silent. A clone is done within a second.
const SILENCE: Duration = Duration::from_secs(4);

/// The id that snapshots are taken with, and that a control keeps.
pub(crate) const GUID: &str = "6d0f5c2e-8a41-4b7c-9e35-1f2a7d90c4b8";

/// Three pages that the guest's kernel is told to leave alone: of the counter, of the clock, and of
/// the agent.
pub(crate) const RESERVED: &str = "memmap=12K$0xc000000";

/// A port whose interrupt line the host can raise by hand: the one that the tables' devices listen
/// to.
pub(crate) const PARALLEL_PORT: [&str; 4] = [
    "-chardev",
    "null,id=lp",
    "-device",
    "isa-parallel,chardev=lp,iobase=0x378,irq=5",
];

/// What all machines of a test have in common.
pub(crate) struct Rig<'a> {
    pub(crate) vm: &'a Vm,
    pub(crate) kernel: &'a Kernel,
    pub(crate) dir: PathBuf,
    pub(crate) initrd: PathBuf,
    /// Arguments of QEMU for what the machines have besides.
    pub(crate) devices: Vec<String>,
    /// What their kernels are told besides, which can hand on words to the guest's script.
    pub(crate) parameters: String,
    /// Another QEMU than usual.
    pub(crate) qemu: Option<Tools>,
}

/// A machine with its memory.
pub(crate) struct Guest {
    pub(crate) agent: Agent,
    pub(crate) ram: Ram,
}

/// A machine at rest.
pub(crate) struct Snapshot {
    pub(crate) ram: Ram,
    stream: String,
}

impl<'a> Rig<'a> {
    pub(crate) fn new(vm: &'a Vm, kernel: &'a Kernel, dir: PathBuf, initrd: PathBuf) -> Self {
        Self {
            vm,
            kernel,
            dir,
            initrd,
            devices: Vec::new(),
            parameters: String::new(),
            qemu: None,
        }
    }

    /// Starts a machine, with something in its memory already. Without a generation id, QEMU gives
    /// it no device for one.
    pub(crate) fn boot<'b>(
        &self,
        name: &str,
        guid: impl Into<Option<&'b str>>,
        prepare: impl FnOnce(&Ram) -> Result<()>,
    ) -> Result<Guest> {
        let ram = Ram::create(self.ram_of(name))?;
        prepare(&ram)?;
        self.start(name, guid.into(), ram, &[])
    }

    /// Makes a machine from a snapshot. It stands still.
    pub(crate) fn restore(&self, snapshot: &Snapshot, name: &str, guid: &str) -> Result<Guest> {
        let ram = snapshot.ram.copy_to(self.ram_of(name))?;
        let mut guest = self.start(name, Some(guid), ram, &["-S", "-incoming", "defer"])?;
        let qmp = guest.agent.machine.qmp();
        qmp.ignore_shared_memory()?;
        qmp.migrate_from(&snapshot.stream)?;
        Ok(guest)
    }

    fn ram_of(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.ram"))
    }

    fn start(&self, name: &str, guid: Option<&str>, ram: Ram, besides: &[&str]) -> Result<Guest> {
        let memory = format!(
            "memory-backend-file,id=ram0,size={}M,share=on,mem-path={}",
            super::qemu::MEMORY_MIB,
            ram.path().display()
        );
        let mut devices = vec!["-object", &memory, "-machine", "memory-backend=ram0"];
        devices.extend(self.devices.iter().map(String::as_str));
        devices.extend(besides);
        let config = Config {
            name,
            kernel: self.kernel,
            guid,
            initrd: &self.initrd,
            dir: &self.dir,
            snapshot: None,
            timeout: TIMEOUT,
            devices: &devices,
            parameters: &self.parameters,
        };
        let tools = self.qemu.as_ref().unwrap_or(&self.vm.tools);
        let machine = Machine::start_with(tools, &config)?;
        let agent = Agent { machine };
        Ok(Guest { agent, ram })
    }
}

impl Guest {
    /// Follows the guest through its suites. What they ask of their host, `answer` does.
    pub(crate) fn suites(
        &mut self,
        suites: &[&str],
        answer: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<Findings> {
        self.suites_with(Listener::default(), suites, answer)
    }

    pub(crate) fn suites_with(
        &mut self,
        mut listener: Listener,
        suites: &[&str],
        mut answer: impl FnMut(&mut Self, &str) -> Result<()>,
    ) -> Result<Findings> {
        while let Some(line) = self.agent.machine.line()? {
            if let Some(request) = line.strip_prefix("ask ") {
                answer(self, request)?;
                self.agent.machine.send("done")?;
                continue;
            }
            listener.hear(&line);
            if listener.has_passed() {
                break;
            }
        }
        let passed = listener.has_passed();
        let findings = listener.finish(suites);
        if !passed && findings.red.is_empty() {
            // Failed cases explain themselves. A machine that ended for another reason does not.
            return Err(self.agent.machine.error("it ended within its suites"));
        }
        Ok(findings)
    }

    /// Stops the machine and keeps what it was.
    pub(crate) fn snapshot(mut self, stream: &str) -> Result<Snapshot> {
        let qmp = self.agent.machine.qmp();
        qmp.ignore_shared_memory()?;
        // First, so that the file has nothing that the stream does not know of.
        qmp.stop()?;
        qmp.migrate_to(stream)?;
        qmp.quit()?;
        self.agent.machine.wait()?;
        Ok(Snapshot {
            ram: self.ram,
            stream: stream.to_owned(),
        })
    }

    /// Raises the interrupt that a notifying device has, and lowers it.
    pub(crate) fn notify(&mut self) -> Result<()> {
        let qmp = self.agent.machine.qmp();
        // Twice the strobe with interrupts on; reading the status ends what that raised.
        for command in ["o /b 0x37a 0x1c", "o /b 0x37a 0x1c", "i /b 0x379"] {
            qmp.monitor(command)?;
        }
        Ok(())
    }

    pub(crate) fn go(&mut self) -> Result<()> {
        self.agent.machine.qmp().cont()
    }

    /// One line for each of these words, in whatever order they come.
    pub(crate) fn expect_all(&mut self, words: &[&str]) -> Result<Vec<Message>> {
        let deadline = Instant::now() + PATIENCE;
        let mut heard: Vec<Option<Message>> = words.iter().map(|_| None).collect();
        while heard.iter().any(Option::is_none) {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(line) = self.agent.listen(left)? else {
                let fault = format!("its agent did not say all of {words:?} within {PATIENCE:?}");
                return Err(self.agent.machine.error(&fault));
            };
            println!("# {}: {line}", self.agent.machine.name());
            let word = line.split(' ').next().unwrap_or_default();
            let place = words.iter().position(|w| *w == word);
            match place.and_then(|place| heard.get_mut(place)) {
                Some(place) if place.is_none() => *place = Some(Message::from(line)),
                _ => {
                    let fault = format!("its agent should say {words:?}, once each");
                    return Err(self.agent.machine.error(&fault));
                }
            }
        }
        Ok(heard.into_iter().flatten().collect())
    }

    /// Waits until the number at an address is above another, and returns it.
    pub(crate) fn await_more(&self, address: u64, than: u64) -> Result<u64> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.ram.load_u64(address)?;
            if now > than {
                return Ok(now);
            }
            if Instant::now() > deadline {
                let fault = format!("it has not come beyond {than} within {PATIENCE:?}");
                return Err(self.agent.machine.error(&fault));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the agent reports when it is sent this word.
    pub(crate) fn ask(&mut self, word: &str) -> Result<Message> {
        self.agent.machine.send(word)?;
        let report = self.agent.expect("report")?;
        println!("# {}: {report}", self.agent.machine.name());
        Ok(report)
    }

    /// What the agent says without being asked, within a time in which a clone would long be done.
    pub(crate) fn noise(&mut self) -> Result<Option<String>> {
        let noise = self.agent.listen(SILENCE)?;
        if let Some(noise) = &noise {
            println!("# {}: {noise}", self.agent.machine.name());
        }
        Ok(noise)
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.agent.finish()
    }
}
