// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The processor time that a broker spends on a client which sends as many small requests as it can,
//! over 1,300 outdated watchers, and how long the broker's owner waits for an answer meanwhile.
//!
//! Each request could have the broker look through all outdated watchers: each stale acknowledgement
//! is answered with a notice, tracking is switched on and off while other connections wait, and they
//! ask how many stragglers there are. The time for a request must not depend on how many watchers
//! there are. The owner changes the generation again and again meanwhile.
//!
//! The broker and the client are separate processes. If the bench runs as root, the client runs as
//! another user, because other limits apply to the broker's own user.
#![allow(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::fs::{Permissions, set_permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use rustix::process::{Gid, Uid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use sysgenid::Source;
use sysgenid_benches::process::{self, Process};
use sysgenid_benches::{Bound, Bounds};
use sysgenid_sys::wire::{Answer, OPEN_TRACKED, Op, Reply, Request, StragglerPage, WATCH_SOCKET};

const WATCHERS: usize = 1_300;
/// Requests of each watcher in a burst.
const REQUESTS: usize = 64;
/// Connections that ask meanwhile.
const QUESTIONS: usize = 64;
/// An odd number, of which the one in the middle counts.
const BURSTS: usize = 5;

const SECONDS: Bound = Bound::AtMost(0.5);
const MILLISECONDS: Bound = Bound::AtMost(100.0);

/// The role of the client, and the user that it becomes.
const CLIENT: &str = "client";
const USER: u32 = 65_533;
/// How often the owner changes the generation.
const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    match process::role() {
        Some((role, folder)) if role == CLIENT => return attack(&folder),
        Some((_, folder)) => return process::serve(&folder),
        None => {}
    }
    let mut bounds = Bounds::new();
    let folder = tempfile::tempdir().expect("a temporary folder");
    set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a folder of ours");
    let (broker, _) = Process::broker(folder.path());
    let source = Source::at(folder.path()).expect("the broker");
    let trigger = || source.trigger(PATIENCE).expect("a change").get();

    let mut client = Process::start(CLIENT, folder.path());
    let wanted = if bounds.measured() { WATCHERS } else { 10 };
    client.tell(&wanted.to_string());
    let watchers = client.hear();
    let (mut ticks, mut longest) = (Vec::new(), Duration::ZERO);
    for _ in 0..if bounds.measured() { BURSTS } else { 1 } {
        let generation = trigger();
        let before = broker.processor_ticks();
        client.tell(&generation.to_string());
        thread::scope(|scope| {
            let burst = scope.spawn(|| client.hear());
            while !burst.is_finished() {
                thread::sleep(PAUSE);
                let start = Instant::now();
                trigger();
                longest = longest.max(start.elapsed());
            }
        });
        // By the answer to this, what was sent before it is handled.
        trigger();
        ticks.push(broker.processor_ticks() - before);
    }
    if !bounds.measured() {
        return bounds.verdict();
    }

    bounds.fact(
        "who sends the hostile requests",
        match geteuid().is_root() {
            true => "another user than the broker's",
            false => "the broker's own user, because the bench does not run as root",
        },
    );
    if watchers != WATCHERS.to_string() {
        let short = format!("{watchers} and not {WATCHERS}, by the limit of open files");
        bounds.fact("outdated watchers of the hostile client", &short);
    }
    ticks.sort_by(f64::total_cmp);
    let middle = ticks.get(BURSTS / 2).copied().unwrap_or(f64::NAN);
    bounds.report(
        "processor time of the broker for 83,200 hostile requests over 1,300 outdated watchers",
        middle / 100.0,
        SECONDS,
        "s",
    );
    bounds.report(
        "the longest time until the broker answers its owner meanwhile",
        longest.as_secs_f64() * 1e3,
        MILLISECONDS,
        "ms",
    );
    bounds.verdict()
}

/// Is the client: opens as many watchers as it is told, and sends a burst for each further line.
fn attack(folder: &Path) -> ExitCode {
    process::raise_descriptor_limit();
    if geteuid().is_root() {
        become_another_user().expect("root can be another user");
    }
    let mut lines = std::io::stdin().lines().map_while(Result::ok);
    let wanted: usize = lines.next().map_or(0, |line| parse(&line));
    let watchers: Vec<_> = (0..wanted)
        .map_while(|_| Client::connect(folder)?.watch())
        .collect();
    assert!(!watchers.is_empty(), "the broker has room for a watcher");
    println!("{}", watchers.len());
    for line in lines {
        burst(folder, &watchers, parse(&line));
        println!("sent");
    }
    ExitCode::SUCCESS
}

fn become_another_user() -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

fn parse<T: std::str::FromStr>(line: &str) -> T {
    line.parse().ok().expect("a number")
}

fn burst(folder: &Path, watchers: &[Client], generation: u32) {
    let stale = generation.wrapping_sub(1);
    let requests = [
        packet(Op::SetTracking, 1),
        packet(Op::Acknowledge, stale),
        packet(Op::SetTracking, 0),
        packet(Op::Notify, stale),
    ];
    let mut asking: Vec<_> = (0..QUESTIONS).map(|_| Client::connect(folder)).collect();
    for (round, request) in requests.iter().cycle().take(REQUESTS).enumerate() {
        for watcher in watchers {
            while !watcher.send(request) {
                thread::yield_now();
            }
        }
        let question = match round % 2 {
            0 => packet(Op::Wait, 0),
            _ => packet(Op::Status, 0),
        };
        for client in &mut asking {
            let is_open = client.as_ref().is_some_and(Client::drain);
            // One that waits asks nothing else until it is answered.
            if !is_open || round % 16 == 0 {
                *client = Client::connect(folder);
            }
            if let Some(client) = client {
                client.send(&question);
            }
        }
    }
}

fn packet(op: Op, argument: u32) -> [u8; Request::LEN] {
    let mut request = Request::new(op, 1);
    request.arguments = [argument, 0];
    request.encode()
}

/// A connection, without the SDK, which would send less.
struct Client(OwnedFd);

impl Client {
    /// Connects, and waits while the queue of connections is full.
    fn connect(folder: &Path) -> Option<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).ok()?;
        let address = SocketAddrUnix::new(folder.join(WATCH_SOCKET)).expect("a short path");
        connect(&socket, &address).ok()?;
        Some(Self(socket))
    }

    /// Becomes a tracked watcher. The descriptors of the reply are not taken.
    fn watch(self) -> Option<Self> {
        self.send(&packet(Op::Open, OPEN_TRACKED));
        let mut reply = [0; Reply::LEN];
        let (length, _) = recv(&self.0, &mut reply, RecvFlags::empty()).ok()?;
        let reply = reply.get(..length).and_then(Reply::decode)?;
        (reply.answer == Answer::Ok).then_some(self)
    }

    /// Reads everything and sends one request. Whether the connection had room for that.
    fn send(&self, request: &[u8]) -> bool {
        self.drain();
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        send(&self.0, request, flags) != Err(Errno::AGAIN)
    }

    /// Reads everything. Whether the connection is open still.
    fn drain(&self) -> bool {
        let mut bytes = [0; StragglerPage::LEN];
        loop {
            match recv(&self.0, &mut bytes, RecvFlags::DONTWAIT) {
                Ok((0, _)) => return false,
                Ok(_) => {}
                Err(errno) => return errno == Errno::AGAIN,
            }
        }
    }
}
