// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Naming those that others wait for.

use sysgenid_sys::wire::{Answer, Awaited, Request, Straggler, StragglerPage};

use super::State;
use crate::model::WatcherId;

impl State {
    pub(super) fn stragglers(&self, request: &Request) -> StragglerPage {
        let mut page = self.no_stragglers(request);
        let Some(awaited) = request.awaited() else {
            page.answer = Answer::Invalid;
            return page;
        };
        page.answer = Answer::Ok;
        let after = WatcherId::from_number(request.watcher);
        match awaited {
            Awaited::Generation => self.list(&mut page, self.model.stragglers(after)),
            Awaited::Phase => self.list(&mut page, self.model.unparked_after(after)),
        }
        page
    }

    pub(super) fn list(
        &self,
        page: &mut StragglerPage,
        stragglers: impl Iterator<Item = crate::model::Straggler>,
    ) {
        for (entry, straggler) in page.entries.iter_mut().zip(stragglers) {
            let connection = self
                .by_watcher
                .get(&straggler.watcher)
                .and_then(|&id| self.connections.get(id));
            let owner = connection.and_then(|it| it.watcher()).map(|it| it.owner);
            let command = owner.and_then(|owner| owner.command());
            *entry = Straggler {
                watcher: straggler.watcher.number(),
                // Without a name it may be another process by now.
                pid: match (owner, command) {
                    (Some(owner), Some(_)) => owner.pid(),
                    _ => 0,
                },
                uid: connection.map_or(u32::MAX, |connection| connection.peer.uid),
                acknowledged: straggler.acknowledged,
                command: command.unwrap_or_default(),
            };
            page.count += 1;
        }
    }

    pub(super) fn no_stragglers(&self, request: &Request) -> StragglerPage {
        StragglerPage {
            sequence: request.sequence,
            answer: Answer::Denied,
            generation: self.model.generation(),
            count: 0,
            entries: [Straggler::default(); StragglerPage::CAPACITY],
        }
    }
}
