// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One virtual machine: a child process with a deadline, and a line of text in and out.
//!
//! The guest talks to us over its second serial port, which is QEMU's standard input and output.
//! Its kernel's messages go to a file over the first.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::qmp::Qmp;
use super::{Kernel, Tools, Vm, begin};
use crate::command;
use crate::error::{Context, Error, Result};

/// The guest writes 5 to the debug port, and QEMU exits with 2 * 5 + 1. A kernel that panics
/// reboots, and QEMU exits with 0: no accident looks like this.
pub(crate) const SUCCESS: i32 = 11;

/// What all machines are. The CPU is one with RDRAND: else getrandom() waits for a second after a
/// restore. KVM is not tried: where it is offered without working, QEMU hangs.
const MACHINE: &str = "-M q35 -accel tcg,thread=multi -cpu max -smp 2 \
    -nodefaults -no-user-config -display none -no-reboot \
    -device isa-debug-exit,iobase=0x501,iosize=1 \
    -chardev stdio,id=agent,signal=off -mon chardev=qmp,mode=control";

/// The memory of all machines.
pub(crate) const MEMORY_MIB: u64 = 256;

/// What all kernels are told. On a busy host the emulated timer may be late when a kernel looks
/// whether it ticks, and the kernel would panic.
const PARAMETERS: &str = "console=ttyS0 loglevel=5 panic=-1 no_timer_check";

const CONNECT: Duration = Duration::from_secs(30);

/// How long a kernel may take to start, which it does in a few seconds.
const BEGIN: Duration = Duration::from_secs(300);

/// How to start a machine.
pub(crate) struct Config<'a> {
    /// What messages and the log file call it.
    pub(crate) name: &'a str,
    pub(crate) kernel: &'a Kernel,
    /// The generation id: `auto` is a new one, and without any the machine has no vmgenid device.
    pub(crate) guid: Option<&'a str>,
    pub(crate) initrd: &'a Path,
    /// The working folder: a snapshot is written to and read from here.
    pub(crate) dir: &'a Path,
    /// The snapshot to start from, instead of booting.
    pub(crate) snapshot: Option<&'a str>,
    pub(crate) timeout: Duration,
    /// What this machine has besides, as arguments of QEMU.
    pub(crate) devices: &'a [&'a str],
    /// What this kernel is told besides.
    pub(crate) parameters: &'a str,
}

impl Config<'_> {
    /// Whether the machine boots, and is not one that goes on from a snapshot.
    fn boots(&self) -> bool {
        self.snapshot.is_none() && !self.devices.contains(&"-incoming")
    }
}

/// What became of a machine that was to boot.
enum Begin {
    Begun(Machine),
    Ended(Machine),
}

pub(crate) struct Machine {
    name: String,
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    deadline: Instant,
    console: PathBuf,
    qmp: Qmp,
}

impl Machine {
    pub(crate) fn start(vm: &Vm, config: &Config<'_>) -> Result<Self> {
        Self::start_with(&vm.tools, config)
    }

    /// With the QEMU of these tools. A machine that boots has begun when this returns.
    pub(crate) fn start_with(tools: &Tools, config: &Config<'_>) -> Result<Self> {
        let machine = Self::launch(tools, config)?;
        if !config.boots() {
            return Ok(machine);
        }
        let machine = match machine.begin()? {
            Begin::Begun(machine) => return Ok(machine),
            Begin::Ended(machine) => machine,
        };
        let console = std::fs::read(&machine.console).unwrap_or_default();
        if !begin::is_the_kernels_own_end(&String::from_utf8_lossy(&console)) {
            return Err(machine.error("it ended before it began"));
        }
        println!(
            "# the {} machine: its kernel panicked before anything of ours ran. A second try.\n{}",
            machine.name,
            tail(&machine.console)
        );
        drop(machine);
        match Self::launch(tools, config)?.begin()? {
            Begin::Begun(machine) => Ok(machine),
            Begin::Ended(machine) => Err(machine.error("it ended before it began, twice")),
        }
    }

    /// Waits until the first program has begun, or the machine has ended.
    fn begin(mut self) -> Result<Begin> {
        match self.line_until(Instant::now() + BEGIN)? {
            Line::Said(line) if line == begin::BEGUN => Ok(Begin::Begun(self)),
            Line::Said(line) => Err(self.error(&format!("it should begin, and says {line:?}"))),
            Line::Ended => Ok(Begin::Ended(self)),
            Line::Silence => Err(self.error(&format!("it did not begin within {BEGIN:?}"))),
        }
    }

    fn launch(tools: &Tools, config: &Config<'_>) -> Result<Self> {
        let console = config.dir.join(format!("{}.console", config.name));
        // In a folder of its own because the path of a socket is short, and for nobody else.
        let private = tempfile::tempdir().context(|| "cannot make a temporary folder")?;
        let socket = private.path().join("qmp");
        let listener =
            UnixListener::bind(&socket).context(|| format!("cannot make {}", socket.display()))?;

        let mut qemu = tools.qemu(launcher())?;
        qemu.args(MACHINE.split_whitespace());
        qemu.arg("-m").arg(MEMORY_MIB.to_string());
        let log = format!("file:{}.console", config.name);
        let monitor = format!("socket,id=qmp,path={}", socket.display());
        qemu.args(["-serial", &log, "-serial", "chardev:agent"]);
        qemu.args(["-chardev", &monitor]).args(config.devices);
        if let Some(guid) = config.guid {
            qemu.arg("-device").arg(format!("vmgenid,guid={guid}"));
        }
        qemu.arg("-append")
            .arg(format!("{PARAMETERS} {}", config.parameters));
        qemu.arg("-kernel").arg(&config.kernel.vmlinux);
        qemu.arg("-initrd").arg(config.initrd);
        if let Some(snapshot) = config.snapshot {
            qemu.arg("-incoming").arg(format!("exec:cat {snapshot}"));
        }
        qemu.current_dir(config.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = qemu.spawn().context(|| "cannot run QEMU")?;

        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::new("QEMU was started without pipes"));
        };
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout)
                .split(b'\n')
                .map_while(std::io::Result::ok)
            {
                let line = String::from_utf8_lossy(&line);
                if sender.send(line.trim_end_matches('\r').to_owned()).is_err() {
                    break;
                }
            }
        });
        let qmp = match connect(&listener, &mut child).and_then(Qmp::new) {
            Ok(qmp) => qmp,
            Err(error) => {
                // Already dead, as a rule; there is no machine yet whose end would see to it.
                let _ = child.kill();
                let _ = child.wait();
                return Err(error);
            }
        };
        let deadline = Instant::now() + config.timeout;
        Ok(Self {
            name: config.name.to_owned(),
            child,
            stdin,
            lines,
            deadline,
            console,
            qmp,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The next line from the guest; none when the machine has ended.
    pub(crate) fn line(&mut self) -> Result<Option<String>> {
        match self.line_until(self.deadline)? {
            Line::Said(line) => Ok(Some(line)),
            Line::Ended => Ok(None),
            Line::Silence => Err(self.error("it did not finish in time")),
        }
    }

    /// The next line from the guest, if it comes before `moment`.
    pub(crate) fn line_until(&mut self, moment: Instant) -> Result<Line> {
        let moment = moment.min(self.deadline);
        match self
            .lines
            .recv_timeout(moment.saturating_duration_since(Instant::now()))
        {
            Ok(line) => Ok(Line::Said(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(Line::Ended),
            Err(RecvTimeoutError::Timeout) => Ok(Line::Silence),
        }
    }

    pub(crate) fn send(&mut self, line: &str) -> Result<()> {
        let name = &self.name;
        writeln!(self.stdin, "{line}").context(|| format!("cannot talk to the {name} machine"))
    }

    pub(crate) fn qmp(&mut self) -> &mut Qmp {
        &mut self.qmp
    }

    /// How the machine ended, once it has nothing more to say.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        while self.line()?.is_some() {}
        self.child.wait().context(|| "waiting for QEMU")
    }

    /// An error that shows the end of what the guest's kernel said.
    pub(crate) fn error(&self, what: &str) -> Error {
        Error::new(format!(
            "the {} machine: {what}\n{}",
            self.name,
            tail(&self.console)
        ))
    }
}

/// What a guest did within a time.
pub(crate) enum Line {
    Said(String),
    Ended,
    Silence,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // By its own id, and whatever state it is in; one that has ended is only collected.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A launcher that ties QEMU's life to ours: killing us must not leave machines behind.
fn launcher() -> Command {
    let Some(setpriv) = command::find("setpriv") else {
        // It replaces itself as well, so that the process we started is QEMU.
        return Command::new("env");
    };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL", "--"]);
    command
}

/// QEMU connects to us, so there is no moment when it is up and its socket is not.
fn connect(listener: &UnixListener, child: &mut Child) -> Result<std::os::unix::net::UnixStream> {
    listener
        .set_nonblocking(true)
        .context(|| "QEMU's monitor")?;
    let deadline = Instant::now() + CONNECT;
    while Instant::now() < deadline {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context(|| "QEMU's monitor")?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context(|| "QEMU's monitor"),
        }
        if let Some(status) = child.try_wait().context(|| "waiting for QEMU")? {
            return Err(Error::new(format!("QEMU did not start: {status}")));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(Error::new(format!("QEMU did not start within {CONNECT:?}")))
}

/// The last lines of a log.
pub(crate) fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    let from = lines.len().saturating_sub(30);
    let end = lines.get(from..).unwrap_or_default().join("\n");
    format!("--- the end of {}\n{end}", path.display())
}
