// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The steps of the source: of a broker, or of a driver.

use super::{QUEUE, Request, SourceAt, Step, World, emptied_for};
use crate::scene::{Flaw, Source};

impl World {
    pub(super) fn change(&mut self) -> Option<Step> {
        if self.source_at != SourceAt::Idle || self.left.changes == 0 {
            return None;
        }
        self.left.changes -= 1;
        self.source_at = match self.source {
            Source::Broker => SourceAt::EmptySlot,
            Source::Driver | Source::FaultyDriver => SourceAt::Store,
        };
        Some(Step::ChangeBegins)
    }

    pub(super) fn source_goes_on(&mut self) -> Option<Step> {
        let early = self.has(Flaw::NoticeBeforePage);
        let is_broker = self.source == Source::Broker;
        self.source_at = match self.source_at {
            SourceAt::Idle => return self.broker_reads_request(),
            SourceAt::EmptySlot => {
                // A client that has acknowledged has read the notice.
                self.is_told &= self.acknowledged != self.page;
                self.acknowledged = emptied_for(self.page + 1);
                if early {
                    SourceAt::Send
                } else {
                    SourceAt::Store
                }
            }
            SourceAt::Store => {
                self.page += 1;
                match is_broker {
                    true if early => SourceAt::Idle,
                    true => SourceAt::LookAtSlot,
                    false => SourceAt::Wake,
                }
            }
            SourceAt::LookAtSlot => {
                let has_read = self.acknowledged == self.page - 1;
                let sees = has_read && !self.has(Flaw::NoLookAfterPage);
                if !self.is_told || sees || self.tell_again {
                    SourceAt::Send
                } else {
                    SourceAt::Idle
                }
            }
            SourceAt::Send => {
                (self.is_told, self.tell_again) = (true, false);
                if self.notices < QUEUE {
                    self.notices += 1;
                    SourceAt::Wake
                } else {
                    SourceAt::Idle
                }
            }
            SourceAt::Wake => {
                if self.inner.is_hooked {
                    self.report();
                }
                if early && self.acknowledged == emptied_for(self.page + 1) {
                    SourceAt::Store
                } else {
                    SourceAt::Idle
                }
            }
        };
        Some(Step::SourceGoesOn)
    }

    fn broker_reads_request(&mut self) -> Option<Step> {
        if self.requests.is_empty() {
            return None;
        }
        match self.requests.remove(0) {
            Request::Acknowledge(number) if number == self.page => self.is_told = false,
            // Stale, so the client has read a notice that it must get again.
            Request::Acknowledge(_) if self.has(Flaw::StaleIsNotAnswered) => {}
            Request::Acknowledge(_) => self.source_at = SourceAt::Send,
            Request::Notify(seen) if seen == self.page || self.has(Flaw::NotifyLater) => {
                self.tell_again = true;
            }
            Request::Notify(_) => self.source_at = SourceAt::Send,
        }
        Some(Step::BrokerReadsRequest)
    }

    /// A client asks which watchers are outdated.
    pub(super) fn broker_reads_slot(&mut self) -> Option<Step> {
        let is_news = self.is_told && self.acknowledged == self.page;
        if self.source != Source::Broker || self.source_at != SourceAt::Idle || !is_news {
            return None;
        }
        self.is_told = false;
        Some(Step::BrokerReadsSlot)
    }
}
