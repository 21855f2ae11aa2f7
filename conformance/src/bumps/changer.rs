// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv,
    send, socket_with,
};
use sysgenid::Orchestrator;
use sysgenid_sys::wire::{Answer, CONTROL_SOCKET, Op, Reply, Request};

use super::number;

/// Requests that are sent before the answer to the first of them is read.
const WINDOW: usize = 32;

/// Who changes the generation.
pub(super) enum Changer {
    /// Over one connection, without waiting for each answer. The SDK makes one for each change.
    Broker {
        control: OwnedFd,
        sequence: u32,
    },
    Device(Orchestrator),
}

impl Changer {
    pub(super) fn of_broker(folder: &Path) -> Result<Self, Box<dyn Error>> {
        let address = SocketAddrUnix::new(folder.join(CONTROL_SOCKET))?;
        let control = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        connect(&control, &address)?;
        Ok(Self::Broker {
            control,
            sequence: 0,
        })
    }

    pub(super) fn of_device(orchestrator: Orchestrator) -> Self {
        Self::Device(orchestrator)
    }

    /// So many changes, one after the other. Returns the last generation.
    pub(super) fn change(&mut self, times: u32) -> Result<u32, Box<dyn Error>> {
        let mut last = 0;
        match self {
            Self::Device(orchestrator) => {
                for _ in 0..times {
                    last = number(orchestrator.trigger()?);
                }
                // Or it would hold itself up on a driver that tracks every open file.
                orchestrator.acknowledge()?;
            }
            Self::Broker { control, sequence } => {
                let mut sent = VecDeque::new();
                for _ in 0..times {
                    if sent.len() == WINDOW {
                        last = answer(control, &mut sent)?;
                    }
                    *sequence = sequence.wrapping_add(1);
                    let request = Request::new(Op::Trigger, *sequence);
                    send(&*control, &request.encode(), SendFlags::NOSIGNAL)?;
                    sent.push_back(*sequence);
                }
                while !sent.is_empty() {
                    last = answer(control, &mut sent)?;
                }
            }
        }
        Ok(last)
    }
}

fn answer(control: &OwnedFd, sent: &mut VecDeque<u32>) -> Result<u32, Box<dyn Error>> {
    let mut packet = [0; Reply::LEN];
    let (_, length) = recv(control, &mut packet, RecvFlags::empty())?;
    let reply = packet.get(..length).and_then(Reply::decode);
    match reply {
        Some(reply) if reply.answer == Answer::Ok && sent.pop_front() == Some(reply.sequence) => {
            Ok(reply.generation)
        }
        _ => Err(format!("the broker answers {reply:?}").into()),
    }
}
