// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A place for a value that many threads read and few replace.

#[cfg(not(sysgenid_loom))]
pub(super) use sysgenid_sys::internal::published::Published;

#[cfg(sysgenid_loom)]
pub(super) use modelled::Published;

#[cfg(sysgenid_loom)]
mod modelled {
    use std::ops::Deref;
    use std::sync::{Arc, Mutex};

    use loom::sync::atomic::{AtomicUsize, Ordering};

    /// Stands in for the real one, which has models of its own: together they would have too many
    /// orders to try. It keeps the same promises, and no stronger ones: a load finds the last value
    /// that was stored and sees what was done before that; one load tells another nothing; what was
    /// replaced goes with the last that holds it.
    pub(crate) struct Published<T> {
        /// Which of the values is the last.
        last: AtomicUsize,
        /// Every value, until it was replaced. The lock is none of loom's: no other thread runs
        /// between a step of the model and the look at this that follows it.
        values: Mutex<Vec<Option<Arc<T>>>>,
    }

    pub(crate) struct Held<T>(Arc<T>);

    impl<T> Held<T> {
        pub(crate) fn keep(&self) -> Arc<T> {
            Arc::clone(&self.0)
        }
    }

    impl<T> Deref for Held<T> {
        type Target = T;

        fn deref(&self) -> &T {
            &self.0
        }
    }

    impl<T> Published<T> {
        pub(crate) fn empty() -> Self {
            Self {
                last: AtomicUsize::new(0),
                values: Mutex::new(vec![None]),
            }
        }

        pub(crate) fn load(&self) -> Option<Held<T>> {
            // Adding nothing is how to find the last. Its partner is the exchange below.
            let last = self.last.fetch_add(0, Ordering::Acquire);
            self.with(|values| values.get(last).cloned().flatten().map(Held))
        }

        pub(crate) fn store(&self, value: Option<Arc<T>>) {
            let index = self.with(|values| {
                values.push(value);
                values.len() - 1
            });
            let replaced = self.last.swap(index, Ordering::AcqRel);
            drop(self.with(|values| values.get_mut(replaced).and_then(Option::take)));
        }

        fn with<R>(&self, look: impl FnOnce(&mut Vec<Option<Arc<T>>>) -> R) -> R {
            look(
                &mut self
                    .values
                    .lock()
                    .unwrap_or_else(|error| error.into_inner()),
            )
        }
    }
}
