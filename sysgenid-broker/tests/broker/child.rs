// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Brokers and clients in processes of their own, which can be killed or have limits: this test
//! binary again, with a role in its environment.

use crate::skipped::skipped;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{
    Pid, Resource, Rlimit, Signal, Uid, getrlimit, kill_process, setrlimit, umask,
};
use sysgenid_broker::Server;
use sysgenid_broker::follow::{Choice, Follow, Followers};

use crate::client::Watcher;

const ROLE: &str = "SYSGENID_TEST_ROLE";
const DIR: &str = "SYSGENID_TEST_DIR";
const FILES: &str = "SYSGENID_TEST_FILES";
const UMASK: &str = "SYSGENID_TEST_UMASK";
const FILE_SIZE: &str = "SYSGENID_TEST_FILE_SIZE";
const MEMORY: &str = "SYSGENID_TEST_MEMORY";
const PACKETS: &str = "SYSGENID_TEST_PACKETS";
const FOLLOW: &str = "SYSGENID_TEST_FOLLOW";
const MARK: &str = "child says: ";

/// Not a test: what a child does.
#[test]
fn child() {
    let Ok(role) = env::var(ROLE) else { return };
    let dir = env::var(DIR).expect("a folder");
    let dir = Path::new(&dir);
    limit(FILES, Resource::Nofile);
    limit(FILE_SIZE, Resource::Fsize);
    if let Ok(mask) = env::var(UMASK) {
        umask(Mode::from_raw_mode(mask.parse().expect("a umask")));
    }
    match role.as_str() {
        "serve" => serve(dir),
        "watch" => {
            let watcher = Watcher::tracked(dir);
            println!("\n{MARK}ready");
            wait_for_end();
            drop(watcher);
        }
        "relay" => {
            relay();
            println!("\n{MARK}ready");
            wait_for_end();
        }
        "leave" => {
            // To a child of its own, which ends with the test, as its input does.
            let watcher = Watcher::tracked(dir);
            let mut heir = command("hold", dir);
            // Nobody reads its output any more when it starts.
            heir.stdout(Stdio::null()).stderr(watcher.client.socket);
            let heir = heir.spawn().expect("start a child");
            // This process ends first, and its parent's parent takes care of the heir.
            std::mem::forget(heir);
            println!("\n{MARK}ready");
        }
        "hold" => wait_for_end(),
        role => panic!("no such role: {role}"),
    }
}

fn serve(dir: &Path) {
    let mut server = match Server::bind(dir) {
        Ok(server) => server,
        Err(error) => {
            return println!("\n{MARK}full={} {error}", error.is_disk_full());
        }
    };
    server.on_incident(|incident| {
        // The parent may have read enough.
        let _ = writeln!(std::io::stderr(), "\n{MARK}{incident}");
    });
    // The other end of a log in which nothing happens.
    let _quiet = env::var(FOLLOW).ok().map(|_| follow_quiet_log(&mut server));
    let stopper = server.stopper();
    std::thread::spawn(move || {
        wait_for_end();
        stopper.stop();
    });
    if let Ok(bytes) = env::var(MEMORY) {
        let bytes: u64 = bytes.parse().expect("a number");
        let limit = Some(status_kib("self", "VmSize:") * 1024 + bytes);
        let limit = Rlimit {
            current: limit,
            maximum: limit,
        };
        setrlimit(Resource::As, limit).expect("set the limit");
    }
    println!("\n{MARK}ready {}", server.capacity());
    server.run().expect("run");
}

fn follow_quiet_log(server: &mut Server) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let log = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let (ours, theirs) = log.expect("a log");
    let follow = Follow::new(Choice::Named(Followers::KMSG)).log(theirs);
    server.follow(follow).expect("follow the log");
    ours
}

/// Sends packets over the connection that this process has in place of its standard error.
fn relay() {
    let packets = env::var(PACKETS).expect("packets");
    for packet in packets.split_whitespace() {
        let packet: Vec<_> = packet
            .split(',')
            .map(|byte| byte.parse().expect("a byte"))
            .collect();
        let flags = rustix::net::SendFlags::NOSIGNAL;
        rustix::net::send(std::io::stderr(), &packet, flags).expect("send");
    }
}

fn status_kib(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let value = line.expect(field).trim().trim_end_matches(" kB");
    value.parse().expect("a number")
}

fn wait_for_end() {
    // The parent's end is closed when it is done, or dies.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn limit(variable: &str, resource: Resource) {
    if let Ok(value) = env::var(variable) {
        let value = Some(value.parse().expect("a limit"));
        let limit = Rlimit {
            current: value,
            maximum: value,
        };
        setrlimit(resource, limit).expect("set the limit");
    }
}

/// A child that has said its first word.
pub(crate) struct Process {
    child: Child,
    _stdin: ChildStdin,
    pub(crate) said: String,
}

impl Process {
    pub(crate) fn serve(dir: &Path) -> Self {
        Self::start(command("serve", dir)).ready()
    }

    /// Follows a log in which nothing happens.
    pub(crate) fn serve_following(dir: &Path) -> Self {
        let mut command = command("serve", dir);
        command.env(FOLLOW, "1");
        Self::start(command).ready()
    }

    pub(crate) fn serve_with_files(dir: &Path, files: u64) -> Self {
        Self::try_serve_with_files(dir, files).ready()
    }

    pub(crate) fn try_serve_with_files(dir: &Path, files: u64) -> Self {
        let mut command = command("serve", dir);
        command.env(FILES, files.to_string());
        Self::start(command)
    }

    pub(crate) fn serve_with_umask(dir: &Path, umask: u32) -> Self {
        let mut command = command("serve", dir);
        command.env(UMASK, umask.to_string());
        Self::start(command).ready()
    }

    pub(crate) fn serve_with_file_size(dir: &Path, bytes: u64) -> Self {
        let mut command = command("serve", dir);
        command.env(FILE_SIZE, bytes.to_string());
        Self::start(command)
    }

    /// Serves with so many bytes of memory beyond what it takes at the start.
    pub(crate) fn serve_with_memory(dir: &Path, bytes: u64) -> Self {
        let mut command = command("serve", dir);
        command.env(MEMORY, bytes.to_string());
        // Another arena of the allocator has address space that is counted already.
        command.env("MALLOC_ARENA_MAX", "1");
        Self::start(command).ready()
    }

    pub(crate) fn watch(dir: &Path) -> Self {
        Self::start(command("watch", dir)).ready()
    }

    /// A child that has inherited this connection and has sent these packets over it.
    pub(crate) fn relay(dir: &Path, connection: &OwnedFd, packets: &[Vec<u8>]) -> Self {
        let mut command = command("relay", dir);
        let packets: Vec<_> = packets
            .iter()
            .map(|packet| {
                packet
                    .iter()
                    .map(u8::to_string)
                    .collect::<Vec<_>>()
                    .join(",")
            })
            .collect();
        command.env(PACKETS, packets.join(" "));
        let connection = connection.try_clone().expect("another descriptor");
        let stderr = Stdio::from(connection);
        Self::start_with(command, stderr)
            .expect("start a child")
            .ready()
    }

    /// A child that has opened a watcher, left its connection to a child of its own and ended.
    pub(crate) fn leave(dir: &Path) -> Self {
        let mut process = Self::start(command("leave", dir)).ready();
        process.child.wait().expect("wait for the child");
        process
    }

    /// Serves in a mount namespace of its own after this shell script; `Err` says why not.
    pub(crate) fn serve_after(dir: &Path, script: &str) -> Result<Self, String> {
        let flags: &[&str] = match rustix::process::geteuid().is_root() {
            true => &["--mount"],
            false => &["--user", "--map-root-user", "--mount"],
        };
        Self::serve_unshared(dir, flags, script)
    }

    /// The same in other namespaces, which are what these flags of `unshare` say.
    pub(crate) fn serve_unshared(dir: &Path, flags: &[&str], script: &str) -> Result<Self, String> {
        let inner = command("serve", dir);
        let mut outer = Command::new("unshare");
        let script = format!("{script} && exec \"$@\"");
        outer.args(flags).args(["sh", "-c", &script, "sh"]);
        outer.arg(inner.get_program()).args(inner.get_args());
        for (name, value) in inner.get_envs() {
            outer.env(name, value.expect("a value"));
        }
        let mut process = Self::start_any(outer).map_err(|error| error.to_string())?;
        if process.said.is_empty() {
            let mut said = String::new();
            let stderr = process.child.stderr.take();
            stderr
                .expect("stderr")
                .read_to_string(&mut said)
                .expect("read");
            return Err(said);
        }
        Ok(process)
    }

    fn start(command: Command) -> Self {
        Self::start_any(command).expect("start a child")
    }

    fn start_any(command: Command) -> std::io::Result<Self> {
        Self::start_with(command, Stdio::piped())
    }

    fn start_with(mut command: Command, stderr: Stdio) -> std::io::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()?;
        // It holds what the child was given.
        drop(command);
        let stdin = child.stdin.take().expect("stdin");
        let stdout = BufReader::new(child.stdout.take().expect("stdout"));
        let said = stdout
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(MARK).map(str::to_owned));
        Ok(Self {
            child,
            _stdin: stdin,
            said: said.unwrap_or_default(),
        })
    }

    fn ready(self) -> Self {
        assert!(self.said.starts_with("ready"), "{:?}", self.said);
        self
    }

    /// The next incident that the broker tells.
    pub(crate) fn told(&mut self) -> String {
        let stderr = self
            .child
            .stderr
            .take()
            .expect("stderr, which is read once");
        BufReader::new(stderr)
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix(MARK).map(str::to_owned))
            .expect("nothing is told")
    }

    /// Lets it neither run nor end.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        // The signal takes effect later than it is sent.
        while !self.stat().starts_with('T') {
            std::thread::yield_now();
        }
    }

    pub(crate) fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("signal the child");
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How many watchers the broker says it has room for.
    pub(crate) fn capacity(&self) -> u64 {
        let capacity = self.said.strip_prefix("ready ").expect("a broker");
        capacity.parse().expect("a number")
    }

    /// `SIGKILL`.
    pub(crate) fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What the kernel says of it, from its state on.
    fn stat(&self) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("stat");
        let (_, fields) = stat.rsplit_once(") ").expect("a command");
        fields.to_owned()
    }

    /// Processor time it has used, in the kernel's ticks.
    pub(crate) fn ticks(&self) -> u64 {
        let fields = self.stat();
        let mut fields = fields.split_whitespace().skip(11);
        let mut next = || -> u64 { fields.next().expect("a field").parse().expect("a number") };
        next() + next()
    }

    /// Resident memory in KiB.
    pub(crate) fn resident(&self) -> u64 {
        status_kib(&self.id().to_string(), "VmRSS:")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn command(role: &str, dir: &Path) -> Command {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "child::child", "--nocapture", "--test-threads=1"]);
    command.env(ROLE, role).env(DIR, dir);
    command
}

/// Raises the limit of open files of this process and its children as far as it may, and returns
/// it.
pub(crate) fn raise_files_to(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let maximum = limit.maximum.unwrap_or(u64::MAX).max(wanted);
    for maximum in [maximum, limit.maximum.unwrap_or(u64::MAX)] {
        let raised = Rlimit {
            current: Some(maximum),
            maximum: Some(maximum),
        };
        if setrlimit(Resource::Nofile, raised).is_ok() {
            return maximum;
        }
    }
    limit.current.unwrap_or(u64::MAX)
}

/// Does something as a user who is neither the broker's owner nor root, on a thread of its own. `None`
/// where only root could.
pub(crate) fn as_user<T: Send>(uid: u32, act: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        skipped("only root can act as another user");
        return None;
    }
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // The thread's alone, and it ends with it.
            rustix::thread::set_thread_uid(Uid::from_raw(uid)).expect("become another user");
            act()
        });
        Some(
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        )
    })
}

/// A directory that other users can enter.
pub(crate) fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), mode).expect("open it to others");
    directory
}
