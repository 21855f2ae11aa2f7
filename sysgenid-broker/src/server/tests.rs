// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::io::{ErrorKind, IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};

use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recv, sendmsg, socketpair, sockopt,
};
use sysgenid_sys::wire::{Op, Refusal, Reply};

use super::*;

/// Longer than the broker may take for anything here.
const LINGER: Duration = Duration::from_secs(20);
const PROMPT: Duration = Duration::from_secs(10);

/// As on Linux before 6.16: over pairs, whose ends take descriptors.
fn server_that_is_sent_descriptors(dir: &Path) -> Server {
    let mut server = Server::bind(dir).unwrap();
    server.descriptors_are_refused = false;
    server.state.expect_descriptors();
    server
}

fn client_of(server: &mut Server) -> OwnedFd {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    server.admit(ours, Role::Watch);
    theirs
}

fn ask(client: &OwnedFd, along: Option<&TcpStream>) {
    let packet = Request::new(Op::Status, 7).encode();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = along.into_iter().map(AsFd::as_fd).collect();
    if !descriptors.is_empty() {
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    }
    let parts = [IoSlice::new(&packet)];
    sendmsg(client, &parts, &mut ancillary, SendFlags::NOSIGNAL).unwrap();
}

fn read(client: &OwnedFd, packet: &mut [u8]) -> Result<usize, Errno> {
    recv(client, packet, RecvFlags::empty()).map(|(length, _)| length)
}

/// A connection whose last descriptor takes [`LINGER`] to close, and its other end.
fn slow_to_close() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut slow = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    slow.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = slow.write(&[0; 65_536]) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    sockopt::set_socket_linger(&slow, Some(LINGER)).unwrap();
    (slow, other)
}

#[test]
fn a_descriptor_that_is_slow_to_close_holds_up_neither_requests_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server_that_is_sent_descriptors(folder.path());
    let [bad, good] = [(); 2].map(|()| client_of(&mut server));
    let stopper = server.stopper();

    let (slow, _other) = slow_to_close();
    ask(&bad, Some(&slow));
    // Before the broker has it: whoever closes it last waits.
    drop(slow);
    let start = Instant::now();
    let thread = std::thread::spawn(move || server.run());
    let mut packet = [0; Reply::LEN];
    // The kernel may say first that what was sent was not received.
    let length = match read(&bad, &mut packet) {
        Err(Errno::CONNRESET) => read(&bad, &mut packet),
        first => first,
    };
    assert_eq!(length, Ok(Refusal::LEN));
    let refusal = Refusal::decode(&packet[..Refusal::LEN]).unwrap();
    assert_eq!(refusal.reason, Reason::Descriptors);
    for _ in 0..3 {
        ask(&good, None);
        assert_eq!(read(&good, &mut packet), Ok(Reply::LEN));
    }
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());

    stopper.stop();
    thread.join().unwrap().unwrap();
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
}

#[test]
fn a_stop_does_not_wait_for_what_clients_have_sent_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = server_that_is_sent_descriptors(folder.path());
    let client = client_of(&mut server);
    let (slow, _other) = slow_to_close();
    ask(&client, Some(&slow));
    drop(slow);
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < PROMPT, "{:?}", start.elapsed());
    let ended = read(&client, &mut [0; 8]);
    assert!(matches!(ended, Ok(0) | Err(Errno::CONNRESET)), "{ended:?}");
}
