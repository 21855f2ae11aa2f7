// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A server of the broker's shape that notifies by an eventfd or in another way: so that what is compared has the same way to go.
#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "a bench that cannot run says why and ends"
)]

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::fd::AsFd;
use rustix::io::write;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use sysgenid_sys::page::CounterPageMut;
use sysgenid_sys::wire::{Notice, Reply, Request};

/// Tells by an eventfd.
pub fn write_eventfd(event: impl AsFd) {
    write(event, &1_u64.to_ne_bytes()).expect("an eventfd that is not full");
}

/// Tells by a packet, as the broker does.
pub fn send_notice(socket: impl AsFd) {
    send(socket, &[0; Notice::LEN], SendFlags::DONTWAIT).expect("a client that reads");
}

/// What the broker does for one client and one watcher, which `tell` tells of the change, until the client
/// ends.
pub fn stand_in(counter: &CounterPageMut, tell: impl Fn(), socket: impl AsFd) {
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll instance");
    let data = epoll::EventData::new_u64(0);
    epoll::add(&poller, &socket, data, epoll::EventFlags::IN).expect("a socket to wait for");
    let mut events = Vec::with_capacity(1);
    let mut request = [0; Request::LEN + 1];
    loop {
        events.clear();
        epoll::wait(&poller, spare_capacity(&mut events), None).expect("an event");
        match recv(&socket, &mut request, RecvFlags::DONTWAIT) {
            Ok((Request::LEN, _)) => {}
            _ => return,
        }
        counter.store(counter.load().wrapping_add(1));
        tell();
        send(&socket, &[0; Reply::LEN], SendFlags::DONTWAIT).expect("a client that reads");
    }
}
