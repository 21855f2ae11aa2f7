// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What the attackers do. Each says `on` when its attack is on, and holds it until it is let on or
//! ended. Whatever it holds, the end of its process releases.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    FallocateFlags, MemfdFlags, OFlags, fallocate, fcntl_getfl, fcntl_setfl, memfd_create,
};
use rustix::io::{Errno, write};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice as splice_once};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::client::{self, Client, Door, Watcher, is_readable};
use super::helper::Lines;
use super::part::{Done, How, What};
use super::widened;
use crate::forked::Forked;
use crate::random::Random;

/// How long an attacker waits for the broker, in all.
static PATIENCE: LazyLock<Duration> = LazyLock::new(|| widened(Duration::from_secs(3)));

/// The most connections of a client.
const CONNECTIONS: usize = 2_000;

/// Watchers of which a broker with 256 descriptors can have so many, though not three descriptors
/// of each under way.
const UNREAD: usize = 90;

/// More connections than a broker with 256 descriptors can accept.
const QUEUED: usize = 300;

/// The outdated watchers of one client, and what it sends on each.
const OUTDATED: usize = 1_300;
const PACKETS: usize = 64;
/// Connections that ask meanwhile.
const QUESTIONS: usize = 64;

/// Splices from the descriptor that it polls to a full socket. Meanwhile the kernel holds the
/// pipe's mutex.
pub(super) fn splice(directory: &Path, lines: &Lines) -> Done {
    let watcher = Watcher::open(directory, true, *PATIENCE)?;
    lines.say("open");
    lines.wait();
    if !is_readable(watcher.polled(), *PATIENCE) {
        return Err("the change is not signalled".into());
    }
    let held = hold(watcher.polled().try_clone_to_owned()?)?;
    lines.say(format_args!("on: {held}"));
    lines.wait();
    drop(watcher);
    lines.say("closed");
    lines.hold();
    Ok(())
}

/// Splices from a descriptor on a thread that does not return, and says what it holds.
fn hold(from: OwnedFd) -> Result<String, Box<dyn std::error::Error>> {
    let (full, peer) = full_socket()?;
    let (no_more, full_pipe) = full_pipe()?;
    fcntl_setfl(&from, fcntl_getfl(&from)? - OFlags::NONBLOCK)?;
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let _open = (&peer, &no_more);
        let flags = SpliceFlags::empty();
        let spliced = match splice_once(&from, None, &full, None, 1, flags) {
            // One of the two must be a pipe.
            Err(Errno::INVAL) => splice_once(&from, None, &full_pipe, None, 1, flags),
            spliced => spliced,
        };
        let _ = tell.send(spliced);
        loop {
            thread::park();
        }
    });
    match told.recv_timeout(widened(Duration::from_millis(200))) {
        Err(RecvTimeoutError::Timeout) => Ok("it holds what it polls".into()),
        other => Ok(format!("it holds nothing: {other:?}")),
    }
}

/// A socket that blocks whatever is written to it, and its other end.
fn full_socket() -> std::io::Result<(UnixStream, UnixStream)> {
    let (full, peer) = UnixStream::pair()?;
    full.set_nonblocking(true)?;
    for size in [4096, 1] {
        while (&full).write(&vec![0; size]).is_ok() {}
    }
    full.set_nonblocking(false)?;
    // Kernels before 6.5 append what is spliced to the last packet, however full the queue is. They
    // cannot if the sender is noted from now on.
    rustix::net::sockopt::set_socket_passcred(&peer, true)?;
    Ok((full, peer))
}

/// The same as a pipe.
fn full_pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (read, full) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    for size in [4096, 1] {
        while write(&full, &vec![0; size]).is_ok() {}
    }
    fcntl_setfl(&full, fcntl_getfl(&full)? - OFlags::NONBLOCK)?;
    Ok((read, full))
}

/// Sends a descriptor whose release takes long, and keeps none of it.
pub(super) fn send(directory: &Path, lines: &Lines, what: What, how: How) -> Done {
    let connect = || {
        Client::connect_within(*PATIENCE, directory, Door::Watch)
            .map_err(|errno| format!("connecting: {errno}"))
    };
    let early = match how {
        How::Unaccepted | How::Queued => None,
        _ => Some(connect()?),
    };
    if let Some(client) = &early {
        client.greet(*PATIENCE)?;
    }
    let (sent, keep) = match what {
        What::Pipe => blocked_pipe()?,
        What::Socket => lingering_socket()?,
        What::File => (large_file()?, None),
    };
    let last = match how {
        How::Queued => Some(blocked_pipe()?),
        _ => None,
    };
    lines.say("ready");
    lines.wait();
    let client = match early {
        Some(client) => client,
        None => connect()?,
    };
    if how == How::Unread {
        client.send(&client::invalid_packet())?;
    }
    let packet = match how {
        How::Invalid => client::invalid_packet(),
        _ => client::status_packet(),
    };
    let refused = client.send_with(&packet, &[sent.as_fd()]);
    if refused.is_err() {
        // This process keeps it then.
        lines.say(format_args!(
            "on: the kernel refuses the descriptor: {refused:?}"
        ));
        lines.hold();
        return Ok(());
    }
    let mut others = Vec::new();
    if how == How::Queued {
        // Those between keep their place behind the first, and only the last blocks again.
        let harmless = std::fs::File::open("/dev/null")?;
        let files = std::iter::repeat_n(harmless.as_fd(), QUEUED);
        for file in files.chain(last.as_ref().map(|(end, _)| end.as_fd())) {
            let other = connect()?;
            other.send_with(&packet, &[file])?;
            others.push(other);
        }
    }
    drop((sent, last));
    if how == How::Followed {
        for _ in 0..QUEUED {
            others.push(connect()?);
        }
    }
    if matches!(how, How::Unread | How::Unaccepted | How::Queued) {
        drop(client);
        lines.say("on");
        lines.hold();
    } else {
        lines.say("on");
        lines.hold();
        drop(client);
    }
    drop((others, keep));
    Ok(())
}

/// The descriptor to send, and those that must stay open beside it.
type Sent = (OwnedFd, Option<Vec<OwnedFd>>);

fn blocked_pipe() -> Result<Sent, Box<dyn std::error::Error>> {
    let (read, end) = pipe_with(PipeFlags::CLOEXEC)?;
    write(&end, &[0; 16])?;
    let held = hold(read)?;
    match held.starts_with("it holds what") {
        true => Ok((end, None)),
        false => Err(held.into()),
    }
}

fn lingering_socket() -> Result<Sent, Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (deaf, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    let end = Instant::now() + *PATIENCE;
    // Its buffer grows as the kernel sees fit.
    let mut quiet = 0;
    while quiet < 10 && Instant::now() < end {
        match write(&stream, &[0; 65_536]) {
            Ok(_) => quiet = 0,
            Err(_) => {
                quiet += 1;
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
    // The process that releases it last waits for the peer to take the rest.
    stream.set_nonblocking(false)?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(widened(Duration::from_secs(30))))?;
    Ok((stream.into(), Some(vec![deaf.into(), listener.into()])))
}

fn large_file() -> Result<OwnedFd, Errno> {
    let file = memfd_create("large", MemfdFlags::CLOEXEC)?;
    fallocate(&file, FallocateFlags::empty(), 0, 256 << 20)?;
    Ok(file)
}

/// Connects and says nothing, as often as it is let.
pub(super) fn silent(directory: &Path, lines: &Lines) -> Done {
    raise_files()?;
    let (connections, error) = connect_often(directory, CONNECTIONS, |_| {});
    // The broker deals with the last of them meanwhile.
    thread::sleep(widened(Duration::from_millis(300)));
    let closed = connections.iter().filter(|client| !client.drain()).count();
    lines.say(format_args!(
        "on: {} connections, {closed} of which are closed, then {error:?}",
        connections.len()
    ));
    lines.hold();
    Ok(())
}

/// Asks for watchers and reads no answer: first for so many that only the descriptors under way are
/// too many, then for as many as it can.
pub(super) fn unread(directory: &Path, lines: &Lines) -> Done {
    raise_files()?;
    let ask = |client: &Client| {
        let _ = client.send(&client::open_packet());
    };
    let mut kept = Vec::new();
    for most in [UNREAD, CONNECTIONS] {
        let (connections, error) = connect_often(directory, most, ask);
        thread::sleep(widened(Duration::from_millis(300)));
        lines.say(format_args!(
            "on: {} watchers asked for, then {error:?}",
            connections.len()
        ));
        kept.push(connections);
        lines.wait();
    }
    lines.hold();
    Ok(())
}

fn connect_often(
    directory: &Path,
    most: usize,
    each: impl Fn(&Client),
) -> (Vec<Client>, Option<Errno>) {
    let mut connections = Vec::new();
    let end = Instant::now() + 2 * *PATIENCE;
    while connections.len() < most && Instant::now() < end {
        match Client::connect_within(widened(Duration::from_millis(500)), directory, Door::Watch) {
            Ok(client) => {
                each(&client);
                connections.push(client);
            }
            Err(errno) => return (connections, Some(errno)),
        }
    }
    (connections, None)
}

/// As far as it may.
fn raise_files() -> Result<(), Errno> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )
}

/// Has the broker look through many outdated watchers for each of many small packets.
pub(super) fn quadratic(directory: &Path, lines: &Lines) -> Done {
    raise_files()?;
    let mut watchers = Vec::new();
    while watchers.len() < OUTDATED {
        match Watcher::open(directory, true, *PATIENCE) {
            Ok(watcher) => watchers.push(watcher),
            Err(error) if watchers.is_empty() => return Err(error.into()),
            Err(_) => break,
        }
    }
    lines.say(watchers.len());
    let generation: u32 = lines.wait().unwrap_or_default().parse()?;
    lines.say("on");
    let stale = generation.wrapping_sub(1);
    let mix = [
        client::tracking_packet(true),
        client::acknowledge_packet(stale),
        client::tracking_packet(false),
        client::notify_packet(stale),
    ];
    let mut asking: Vec<_> = (0..QUESTIONS).map(|_| ask(directory)).collect();
    let (mut sent, mut refused) = (0, 0);
    let end = Instant::now() + widened(Duration::from_secs(20));
    for round in 0..PACKETS {
        for watcher in &watchers {
            loop {
                watcher.client.drain();
                match watcher.client.send(&mix[round % mix.len()]) {
                    Ok(()) => sent += 1,
                    Err(Errno::AGAIN) if Instant::now() < end => {
                        thread::yield_now();
                        continue;
                    }
                    Err(_) => refused += 1,
                }
                break;
            }
        }
        // While a client waits, the broker searches for stragglers; and to count them it looks at
        // each of them.
        for question in &mut asking {
            let packet = match round % 2 {
                0 => client::wait_packet(),
                _ => client::status_packet(),
            };
            let is_open = question.as_ref().is_some_and(Client::drain);
            if !is_open || round % 16 == 0 {
                *question = ask(directory);
            }
            if let Some(question) = question {
                sent += usize::from(question.send(&packet).is_ok());
            }
        }
    }
    lines.say(format_args!("{sent} packets sent, {refused} not taken"));
    lines.hold();
    Ok(())
}

/// A connection for questions, if the broker has room for one more.
fn ask(directory: &Path) -> Option<Client> {
    Client::connect_within(*PATIENCE, directory, Door::Watch).ok()
}

/// Bytes of every length, versions of every number. Each must close its connection.
pub(super) fn packets(directory: &Path, lines: &Lines) -> Done {
    let mut random = Random::new(0x5eed);
    let mut packets: Vec<Vec<u8>> = (0..=200)
        .filter(|length| *length != client::LENGTH)
        .map(|length| bytes(&mut random, length))
        .collect();
    packets.extend((0..client::LENGTH).map(|length| client::status_packet()[..length].to_vec()));
    packets.push([client::status_packet(), vec![0]].concat());
    packets.extend(
        [0, 1, 2, 3, 0x0100, 0x0200, u16::MAX]
            .into_iter()
            .filter(|version| *version != client::VERSION)
            .map(client::packet_of_version),
    );
    lines.say("on");
    for packet in packets {
        let client = Client::connect_within(*PATIENCE, directory, Door::Watch)?;
        client.send(&packet)?;
        match client.receive(*PATIENCE) {
            answer if answer.is_refusal() => {}
            answer => return Err(format!("{answer:?} to {packet:?}").into()),
        }
    }
    // Of the right length, which may mean anything, and several on a connection.
    for _ in 0..500 {
        let client = Client::connect_within(*PATIENCE, directory, Door::Watch)?;
        for _ in 0..random.below(20) {
            let mut packet = bytes(&mut random, client::LENGTH);
            if random.once_in(2) {
                packet[..4].copy_from_slice(&client::status_packet()[..4]);
                packet[2] = u8::try_from(random.below(12))?;
            }
            let _ = client.send(&packet);
        }
    }
    lines.say("done");
    lines.hold();
    Ok(())
}

fn bytes(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length)
        .map(|_| random.next().to_le_bytes()[0])
        .collect()
}

/// Connects and leaves, again and again, on several threads.
pub(super) fn storm(directory: &Path, lines: &Lines) -> Done {
    for _ in 0..4 {
        let directory = directory.to_owned();
        thread::spawn(move || {
            loop {
                drop(Client::connect(&directory, Door::Watch));
            }
        });
    }
    lines.say("on");
    lines.hold();
    Ok(())
}

/// Has a forked child acknowledge on the connection that it has inherited.
pub(super) fn forked_acknowledgement(directory: &Path, lines: &Lines) -> Done {
    let watcher = Watcher::open(directory, true, *PATIENCE)?;
    lines.say("open");
    let generation: u32 = lines.wait().unwrap_or_default().parse()?;
    Forked::start(|_| {
        let packet = client::acknowledge_packet(generation);
        watcher.client.send(&packet).expect("it can be sent");
    })
    .finish();
    lines.say("on");
    lines.hold();
    Ok(())
}

/// Ten watchers of a process whose name a terminal would obey.
pub(super) fn hostile_name(directory: &Path, lines: &Lines) -> Done {
    rustix::thread::set_name(c"\x1b[31m\nroot\r\x07\x1b[2J")?;
    let watchers: Result<Vec<_>, _> = (0..10)
        .map(|_| Watcher::open(directory, true, *PATIENCE))
        .collect();
    let _watchers = watchers?;
    lines.say("on");
    lines.hold();
    Ok(())
}

/// Ends, while a forked child keeps the watcher until the case is over.
pub(super) fn leave_to_child(directory: &Path, lines: &Lines) -> Done {
    rustix::thread::set_name(c"straggler")?;
    let _watcher = Watcher::open(directory, true, *PATIENCE)?;
    lines.say("on");
    lines.wait();
    // SAFETY: This process has one thread. The child only reads, and ends.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        lines.hold();
        // SAFETY: It ends the process, and runs nothing of the parent's.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}
