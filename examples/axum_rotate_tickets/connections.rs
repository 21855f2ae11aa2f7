// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which connections are of which generation, and when the last of an earlier one has ended.

use sysgenid::{Uniqueness, Witness};
use tokio::sync::watch;

/// Who was accepted in which generation.
pub(crate) struct Connections<W> {
    witness: W,
    mark: Uniqueness,
    /// Its receivers are the connections since `mark`.
    cut: watch::Sender<()>,
    /// Those of before, which were told to end.
    outdated: Vec<watch::Sender<()>>,
}

pub(crate) struct Connection {
    pub(crate) mark: Uniqueness,
    /// Kept to the connection's end, which is known by its being dropped.
    pub(crate) cut: watch::Receiver<()>,
}

impl<W: Witness> Connections<W> {
    pub(crate) fn new(witness: W) -> Self {
        Self {
            mark: witness.mark(),
            witness,
            cut: watch::Sender::new(()),
            outdated: Vec::new(),
        }
    }

    pub(crate) fn begin(&mut self) -> Connection {
        self.cut_outdated(); // it may have changed before anybody was told: this one is new
        Connection {
            mark: self.mark,
            cut: self.cut.subscribe(),
        }
    }

    fn cut_outdated(&mut self) {
        let mark = self.witness.mark();
        if mark != self.mark {
            self.mark = mark;
            let outdated = std::mem::take(&mut self.cut);
            outdated.send_replace(());
            self.outdated.push(outdated);
        }
    }

    /// Cuts those of before, and waits until the last of them has ended.
    pub(crate) async fn drain(&mut self) {
        self.cut_outdated();
        while let Some(outdated) = self.outdated.last() {
            outdated.closed().await;
            self.outdated.pop();
        }
    }
}
