// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The phase of a broker, as a watcher that parks knows it: nothing but the notices tells it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sysgenid_sys::wire::{Notice, Op, Phase, Reply};

use super::BrokerWatcher;
use crate::base::error::Result;

/// What a broker asks of those that park.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) phase: Phase,
    /// To acknowledge it with.
    pub(crate) number: u32,
    pub(crate) is_acknowledged: bool,
}

/// What was heard of the phase, and what was said. Nothing else depends on the two words, so they are
/// relaxed.
pub(super) struct Parking {
    /// The phase's number, and the phase, as a notice of the last change of it has them.
    heard: AtomicU64,
    /// The number that was acknowledged last.
    acknowledged: AtomicU32,
}

impl Parking {
    /// That of a watcher that was opened with this reply.
    pub(super) fn new(reply: &Reply) -> Self {
        let is_asked = reply.phase != Phase::Running;
        let acknowledged = reply.phase_number.wrapping_sub(u32::from(is_asked));
        Self {
            heard: AtomicU64::new(word(reply.phase, reply.phase_number)),
            acknowledged: AtomicU32::new(acknowledged),
        }
    }

    /// Notices come in the order of the changes, but two threads may have read one each.
    pub(super) fn hear(&self, notice: &Notice) {
        let new = word(notice.phase, notice.phase_number);
        let _ = self
            .heard
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                let steps = notice.phase_number.wrapping_sub(number(old));
                (1..=u32::MAX / 2).contains(&steps).then_some(new)
            });
    }

    fn asked(&self) -> Asked {
        let heard = self.heard.load(Ordering::Relaxed);
        let number = number(heard);
        Asked {
            phase: if heard & 1 == 1 {
                Phase::Quiesce
            } else {
                Phase::Running
            },
            number,
            is_acknowledged: self.acknowledged.load(Ordering::Relaxed) == number,
        }
    }
}

fn word(phase: Phase, number: u32) -> u64 {
    u64::from(number) << 32 | u64::from(phase == Phase::Quiesce)
}

fn number(word: u64) -> u32 {
    (word >> 32) as u32
}

impl BrokerWatcher {
    /// What the broker asks for, as far as the notices say that were read; `None` for a watcher that does
    /// not park.
    pub(in crate::watch::watcher) fn asked(&self) -> Option<Asked> {
        self.parking.as_ref().map(Parking::asked)
    }

    /// Tells the broker that what it asked for with this number is done. Never waits. If the phase is another
    /// one by now, the broker sends a notice of that.
    pub(in crate::watch::watcher) fn acknowledge_phase(&self, number: u32) -> Result<()> {
        self.connection.tell(Op::AcknowledgePhase, number)?;
        if let Some(parking) = &self.parking {
            parking.acknowledged.store(number, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Reads one notice, if there is one. Never waits.
    pub(super) fn read_notice(&self) -> Result<()> {
        let notice = self.connection.read_notice()?;
        if let (Some(notice), Some(parking)) = (notice, &self.parking) {
            parking.hear(&notice);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(phase: Phase, phase_number: u32) -> Notice {
        Notice {
            phase,
            phase_number,
            ..Notice::default()
        }
    }

    fn parking(heard: u32) -> Parking {
        Parking {
            heard: AtomicU64::new(word(Phase::Running, heard)),
            acknowledged: AtomicU32::new(heard),
        }
    }

    /// The slower one of two threads has read the earlier notice.
    #[test]
    fn an_earlier_notice_that_is_heard_later_changes_nothing() {
        let parking = parking(6);
        parking.hear(&notice(Phase::Running, 8));
        parking.hear(&notice(Phase::Quiesce, 7));
        let asked = parking.asked();
        assert_eq!((asked.phase, asked.number), (Phase::Running, 8));
        assert!(!asked.is_acknowledged);
    }

    #[test]
    fn numbers_wrap() {
        let parking = parking(u32::MAX);
        assert!(parking.asked().is_acknowledged);
        parking.hear(&notice(Phase::Quiesce, 0));
        assert_eq!(
            parking.asked(),
            Asked {
                phase: Phase::Quiesce,
                number: 0,
                is_acknowledged: false
            }
        );
        parking.hear(&notice(Phase::Running, u32::MAX));
        assert_eq!(parking.asked().number, 0);
    }
}
