// SPDX-License-Identifier: Apache-2.0 OR MIT
//! How much of the broker one user may have.

use std::collections::{HashMap, VecDeque};

use sysgenid_sys::wire::Reason;

use super::{ConnectionId, Role};

/// Connections of the control socket that there is always room for.
pub(crate) const CONTROL_ROOM: u64 = 16;

/// Requests of one user that a sweep reads beside the first of each connection. A client seldom has more
/// than one to be read, and a hostile one always has more on each of a thousand connections.
const OTHERS: usize = 256;

/// Who has how many connections.
///
/// A user may have half of what the others leave. So however many one user opens, there is room for
/// the next one, and the broker's owner and root may have all that fits.
#[derive(Debug)]
pub(super) struct Limits {
    capacity: u64,
    /// Watchers of one user whose descriptors may be unread: the kernel counts them all as the
    /// broker's, and refuses to send more when there are many.
    pub(super) unread: usize,
    watch: u64,
    control: u64,
    users: HashMap<u32, User>,
    /// How often a sweep has begun or ended: an odd number during one.
    sweeps: u64,
}

#[derive(Debug, Default)]
struct User {
    connections: u64,
    /// Watchers that may not have read their descriptors yet, as they were opened.
    unread: VecDeque<ConnectionId>,
    /// How much of [`OTHERS`] is left in this sweep.
    others: usize,
    sweep: u64,
}

impl Limits {
    pub(super) fn new(capacity: u64, descriptors: u64) -> Self {
        let unread = (descriptors / 32).clamp(4, 64);
        Self {
            capacity,
            unread: usize::try_from(unread).unwrap_or(4),
            watch: 0,
            control: 0,
            users: HashMap::new(),
            sweeps: 0,
        }
    }

    /// Takes one more connection of a user, or says why not, and which limit that is. `closing` are
    /// those of the user that are given back and not closed yet.
    pub(super) fn take(
        &mut self,
        uid: u32,
        role: Role,
        is_privileged: bool,
        closing: u64,
    ) -> Result<(), (Reason, u64)> {
        if self.users.try_reserve(1).is_err() {
            return Err((Reason::Exhausted, 0));
        }
        let has_room = self.watch < self.capacity;
        if role == Role::Control && (self.control < CONTROL_ROOM || has_room) {
            self.control += 1;
            return Ok(());
        }
        if !has_room {
            return Err((Reason::Full, self.capacity));
        }
        let own = self.users.get(&uid).map_or(0, |user| user.connections);
        let limit = (self.capacity - (self.watch - own)) / 2;
        if !is_privileged && own + closing >= limit {
            return Err((Reason::UserLimit, limit));
        }
        self.watch += 1;
        self.users.entry(uid).or_default().connections += 1;
        Ok(())
    }

    pub(super) fn give_back(&mut self, uid: u32, role: Role) {
        if role == Role::Control {
            self.control = self.control.saturating_sub(1);
            return;
        }
        self.watch = self.watch.saturating_sub(1);
        if let Some(user) = self.users.get_mut(&uid) {
            user.connections = user.connections.saturating_sub(1);
            if user.connections == 0 {
                self.users.remove(&uid);
            }
        }
    }

    pub(super) fn begin_sweep(&mut self) {
        self.sweeps |= 1;
    }

    pub(super) fn end_sweep(&mut self) {
        self.sweeps = self.sweeps.wrapping_add(self.sweeps & 1);
    }

    /// How many requests of a user may be read now beside the first of each connection: none unless
    /// there is a sweep.
    pub(super) fn others_of(&mut self, uid: u32) -> &mut usize {
        let sweep = self.sweeps;
        let user = self.users.entry(uid).or_default();
        if std::mem::replace(&mut user.sweep, sweep) != sweep {
            user.others = if sweep % 2 == 1 { OTHERS } else { 0 };
        }
        &mut user.others
    }

    /// The watchers of a user whose descriptors may be unread.
    pub(super) fn unread_of(&mut self, uid: u32) -> &mut VecDeque<ConnectionId> {
        &mut self.users.entry(uid).or_default().unread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(limits: &mut Limits, uid: u32) -> u64 {
        let mut taken = 0;
        while limits.take(uid, Role::Watch, false, 0).is_ok() {
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_user_may_have_half_of_what_the_others_leave() {
        let mut limits = Limits::new(200, 256);
        assert_eq!(fill(&mut limits, 1), 100);
        assert_eq!(
            limits.take(1, Role::Watch, false, 0),
            Err((Reason::UserLimit, 100))
        );
        assert_eq!(fill(&mut limits, 2), 50);
        assert_eq!(fill(&mut limits, 3), 25);
        // The first one's share is smaller by now; what it has, it keeps.
        assert_eq!(
            limits.take(1, Role::Watch, false, 0),
            Err((Reason::UserLimit, 62))
        );
        limits.give_back(1, Role::Watch);
        assert!(limits.take(1, Role::Watch, false, 0).is_err());
    }

    #[test]
    fn a_connection_that_cannot_be_closed_counts_on() {
        let mut limits = Limits::new(200, 256);
        assert!(limits.take(1, Role::Watch, false, 99).is_ok());
        let refused = Err((Reason::UserLimit, 100));
        assert_eq!(limits.take(1, Role::Watch, false, 99), refused);
        assert!(limits.take(2, Role::Watch, false, 0).is_ok());
    }

    #[test]
    fn the_owner_may_have_the_rest_and_always_has_the_control_socket() {
        let mut limits = Limits::new(10, 256);
        fill(&mut limits, 1);
        let rest = (0..10)
            .filter(|_| limits.take(0, Role::Watch, true, 0).is_ok())
            .count();
        assert_eq!(rest, 5);
        assert_eq!(
            limits.take(0, Role::Watch, true, 0),
            Err((Reason::Full, 10))
        );
        for _ in 0..CONTROL_ROOM {
            assert_eq!(limits.take(0, Role::Control, true, 0), Ok(()));
        }
        assert_eq!(
            limits.take(0, Role::Control, true, 0),
            Err((Reason::Full, 10))
        );
        limits.give_back(0, Role::Control);
        assert_eq!(limits.take(0, Role::Control, true, 0), Ok(()));
    }

    #[test]
    fn a_sweep_reads_so_many_requests_of_each_user() {
        let mut limits = Limits::new(10, 256);
        assert_eq!(*limits.others_of(7), 0);
        for _ in 0..2 {
            limits.begin_sweep();
            assert_eq!(*limits.others_of(7), OTHERS);
            *limits.others_of(7) -= 1;
            assert_eq!(*limits.others_of(7), OTHERS - 1);
            assert_eq!(*limits.others_of(8), OTHERS);
            limits.end_sweep();
            assert_eq!(*limits.others_of(7), 0);
        }
    }

    #[test]
    fn a_user_who_has_gone_is_forgotten() {
        let mut limits = Limits::new(10, 256);
        limits.take(7, Role::Watch, false, 0).unwrap();
        limits.give_back(7, Role::Watch);
        assert!(limits.users.is_empty());
        assert_eq!(fill(&mut limits, 8), 5);
    }
}
