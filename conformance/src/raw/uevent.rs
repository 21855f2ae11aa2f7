// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The events that the kernel sends to the device manager.

use std::fs;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::Node;
use crate::background::{GLANCE, PATIENCE};

/// The multicast group of the kernel itself; udev sends on another.
const KERNEL: u32 = 1;

/// Hears the changes of the device under test.
pub(super) struct Listener {
    socket: OwnedFd,
    folder: PathBuf,
}

impl Listener {
    pub(super) fn new(node: &Node) -> Self {
        // SAFETY: The call takes numbers, and its result is checked before it is owned.
        let socket = unsafe {
            let fd = libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
                libc::NETLINK_KOBJECT_UEVENT,
            );
            assert!(fd >= 0, "socket: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: All zeros is a valid address: the kernel chooses the port.
        let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
        address.nl_family = libc::AF_NETLINK.try_into().expect("it is small");
        address.nl_groups = KERNEL;
        let length = mem::size_of_val(&address).try_into().expect("it is small");
        // SAFETY: The address lives over the call and is as long as it says.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0, "bind: {}", std::io::Error::last_os_error());
        Self {
            socket,
            folder: node.sysfs(),
        }
    }

    /// That a change to this generation is announced, soon.
    pub(super) fn expect_generation(&self, generation: u32) {
        let expected = format!("SYSGENID={generation}");
        let end = Instant::now() + PATIENCE;
        while let Some(event) = self.hear(end) {
            if event.contains(&expected) {
                assert!(event.contains(&"ACTION=change".to_owned()), "{event:?}");
                return;
            }
            // One that was coalesced, or belongs to a change before.
        }
        panic!("no event says {expected}");
    }

    /// That no change was announced. A change that is asked for by hand shows that the socket hears
    /// those of this device.
    pub(super) fn expect_silence(&self) {
        fs::write(self.folder.join("uevent"), "change").expect("an event can be asked for");
        let mut end = Instant::now() + PATIENCE;
        let mut heard = false;
        while let Some(event) = self.hear(end) {
            assert!(
                !event.iter().any(|line| line.starts_with("SYSGENID=")),
                "{event:?}"
            );
            heard = true;
            // What comes late.
            end = Instant::now() + GLANCE;
        }
        assert!(heard, "the socket hears nothing");
    }

    /// The next event of the device, as its lines.
    fn hear(&self, end: Instant) -> Option<Vec<String>> {
        let device = self.folder.file_name()?.to_str()?.to_owned();
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if !self.is_readable(left) {
                return None;
            }
            let mut buffer = [0; 8192];
            let length = match rustix::io::read(&self.socket, &mut buffer) {
                Ok(length) => length,
                Err(Errno::AGAIN) => continue,
                Err(errno) => panic!("read: {errno}"),
            };
            let lines: Vec<String> = buffer[..length]
                .split(|byte| *byte == 0)
                .filter(|line| !line.is_empty())
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect();
            // ACTION@DEVPATH
            let path = lines.first().and_then(|line| line.rsplit('/').next());
            if path == Some(device.as_str()) {
                return Some(lines);
            }
        }
    }

    fn is_readable(&self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).expect("it is short");
        poll(
            &mut [PollFd::new(&self.socket, PollFlags::IN)],
            Some(&timeout),
        )
        .expect("poll")
            > 0
    }
}
