// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Identifiers that no clone of a program gives out twice: a random series, and a count within it.

use sysgenid::Uniqueness;
use sysgenid::rand_core::Rng;

/// Gives out identifiers.
#[derive(Debug, Default)]
pub struct Ids {
    /// The series, and how things were when it began.
    series: Option<(Uniqueness, u64)>,
    count: u64,
}

impl Ids {
    /// The next identifier: in a new series if this is a clone by now, or a forked child.
    pub fn next(&mut self) -> (u64, u64) {
        let now = sysgenid::uniqueness();
        let series = match self.series {
            Some((begun, series)) if begun == now => series,
            _ => sysgenid::rng().next_u64(),
        };
        self.series = Some((now, series));
        self.count += 1;
        (series, self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use sysgenid::testing::Restores;

    use super::Ids;

    #[test]
    fn a_clone_begins_a_new_series() {
        let (restores, mut ids) = (Restores::new(), Ids::default());
        let _scope = restores.scope();
        let (before, ()) = (ids.next().0, restores.restore());
        assert_ne!(ids.next().0, before);
    }

    #[test]
    fn a_forked_child_begins_a_new_series() {
        let (restores, mut ids) = (Restores::new(), Ids::default());
        let _scope = restores.scope();
        let (before, ()) = (ids.next().0, restores.fork());
        assert_ne!(ids.next().0, before);
    }

    #[test]
    fn a_series_goes_on_while_nothing_happens() {
        let (restores, mut ids) = (Restores::new(), Ids::default());
        let _scope = restores.scope();
        let (series, _) = ids.next();
        for count in 2..1000 {
            assert_eq!(ids.next(), (series, count), "another test's is seen");
            thread::yield_now();
        }
    }

    #[test]
    fn every_thread_of_a_clone_begins_a_new_series() {
        let restores = Restores::new();
        let threads = [(); 4].map(|()| {
            let world = restores.clone();
            thread::spawn(restores.in_scope(move || {
                let mut ids = Ids::default();
                let before = ids.next();
                world.restore();
                (before, ids.next())
            }))
        });
        for thread in threads {
            let (before, after) = thread.join().expect("no thread panics");
            assert_ne!(before.0, after.0);
        }
    }
}
