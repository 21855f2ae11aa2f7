// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The server's part of following: where followers come from, and what becomes of what they see.

use rustix::event::epoll;

use super::{FOLLOWERS, Server, event_data};
use crate::Error;
use crate::directory::Incident;
use crate::follow::{Event, Follow, Listening, Report};

impl Server {
    /// Follows what announces restores, from now on, and changes the generation once for each: when the
    /// kernel's entropy is new. It replaces what was followed before.
    ///
    /// The followers run on separate threads. What they have seen is kept in the directory, so
    /// that a broker which is started again notices a restore in between.
    ///
    /// # Errors
    ///
    /// A follower that was named cannot work here ([`Error::is_no_follower`]), or there are no threads
    /// or descriptors for them.
    pub fn follow(&mut self, follow: Follow) -> Result<Report, Error> {
        let failed = |error| Error::system("listen to followers", error);
        if let Some(listening) = self.listening.take() {
            epoll::delete(&self.epoll, listening.bell()).map_err(failed)?;
        }
        let (opened, report) = follow.open()?;
        self.state.set_followers(report.followers);
        if opened.is_empty() {
            return Ok(report);
        }
        let is_fresh = self.state.page_mut().is_new();
        let listening = Listening::start(opened, self.directory.followed()?, is_fresh)?;
        let (bell, events) = (listening.bell(), epoll::EventFlags::IN);
        epoll::add(&self.epoll, bell, event_data(FOLLOWERS), events).map_err(failed)?;
        self.listening = Some(listening);
        Ok(report)
    }

    /// Does what the followers ask for.
    pub(super) fn hear(&mut self) {
        let Some(listening) = &self.listening else {
            return;
        };
        while let Some(event) = listening.next() {
            match event {
                Event::Change(cause, done) => {
                    self.state.restored(cause);
                    // Unless the thread has ended meanwhile.
                    let _ = done.try_send(());
                }
                Event::Failed(follower, why) => {
                    let left = self.state.follower_failed(follower);
                    (self.tell)(Incident::FollowerFailed {
                        follower,
                        why,
                        left,
                    });
                }
                Event::BarrierFailed(why) => (self.tell)(Incident::BarrierFailed { why }),
            }
        }
    }
}
