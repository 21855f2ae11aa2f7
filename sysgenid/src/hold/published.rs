// SPDX-License-Identifier: Apache-2.0 OR MIT
//! A place for a value that many threads read and few replace.

#[cfg(not(sysgenid_loom))]
pub(crate) use real::{Held, Published, hold, keep};

#[cfg(sysgenid_loom)]
pub(crate) use modelled::{Held, Published, hold, keep};

#[cfg(not(sysgenid_loom))]
mod real {
    use std::sync::Arc;

    use arc_swap::{ArcSwapOption, Guard};

    /// Who reads waits for nobody, and writes to nothing that another thread reads often. A value
    /// that was replaced is dropped by the last one that holds it.
    pub(crate) struct Published<T>(ArcSwapOption<T>);

    /// A value in use.
    pub(crate) type Held<T> = Guard<Option<Arc<T>>>;

    impl<T> Published<T> {
        pub(crate) const fn empty() -> Self {
            Self(ArcSwapOption::const_empty())
        }

        /// What is in it, which is the last that was put there.
        #[inline]
        pub(crate) fn load(&self) -> Held<T> {
            self.0.load()
        }

        pub(crate) fn store(&self, value: Option<Arc<T>>) {
            self.0.store(value);
        }
    }

    pub(crate) fn hold<T>(value: Arc<T>) -> Held<T> {
        Guard::from_inner(Some(value))
    }

    pub(crate) fn keep<T>(held: Held<T>) -> Option<Arc<T>> {
        Guard::into_inner(held)
    }
}

#[cfg(sysgenid_loom)]
mod modelled {
    use std::sync::{Arc, Mutex};

    use loom::sync::atomic::{AtomicUsize, Ordering};

    /// Stands in for arc-swap, whose atomics loom does not know. It keeps the same promises, and no
    /// stronger ones: a load finds the last value that was stored and sees what was done before
    /// that; one load tells another nothing; what was replaced goes with the last that holds it.
    pub(crate) struct Published<T> {
        /// Which of the values is the last.
        last: AtomicUsize,
        /// Every value, until it was replaced. The lock is none of loom's: no other thread runs
        /// between a step of the model and the look at this that follows it.
        values: Mutex<Vec<Option<Arc<T>>>>,
    }

    pub(crate) type Held<T> = Option<Arc<T>>;

    impl<T> Published<T> {
        pub(crate) fn empty() -> Self {
            Self {
                last: AtomicUsize::new(0),
                values: Mutex::new(vec![None]),
            }
        }

        pub(crate) fn load(&self) -> Held<T> {
            // Adding nothing is how to find the last. Its partner is the exchange below.
            let last = self.last.fetch_add(0, Ordering::Acquire);
            self.with(|values| values.get(last).cloned().flatten())
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

    pub(crate) fn hold<T>(value: Arc<T>) -> Held<T> {
        Some(value)
    }

    pub(crate) fn keep<T>(held: Held<T>) -> Option<Arc<T>> {
        held
    }
}
