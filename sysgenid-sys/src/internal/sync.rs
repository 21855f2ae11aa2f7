// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What this crate's algorithms between threads are made of: with `--cfg sysgenid_loom` they are loom's,
//! which tries all orders in which the threads may come. What is in mapped memory is never loom's.

#[cfg(not(sysgenid_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

#[cfg(sysgenid_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

/// What a process-wide counter points at.
#[cfg(not(sysgenid_loom))]
pub(crate) use crate::page::AtomicWord;

#[cfg(sysgenid_loom)]
pub(crate) use loom::sync::atomic::AtomicU64 as AtomicWord;

/// Statics, which loom makes anew for each order that it tries.
#[cfg(not(sysgenid_loom))]
macro_rules! shared {
    ($($statics:tt)*) => { $($statics)* };
}

#[cfg(sysgenid_loom)]
macro_rules! shared {
    () => {};
    ($(#[$about:meta])* pub static $name:ident: $type:ty = $value:expr; $($more:tt)*) => {
        loom::lazy_static! { $(#[$about])* #[allow(missing_docs)] pub static ref $name: $type = $value; }
        shared! { $($more)* }
    };
    ($(#[$about:meta])* static $name:ident: $type:ty = $value:expr; $($more:tt)*) => {
        loom::lazy_static! { $(#[$about])* static ref $name: $type = $value; }
        shared! { $($more)* }
    };
}

/// A constructor that a static can use; loom's atomics have none that is constant.
#[cfg(not(sysgenid_loom))]
macro_rules! constant {
    ($(#[$about:meta])* $visible:vis fn $($rest:tt)*) => { $(#[$about])* $visible const fn $($rest)* };
}

#[cfg(sysgenid_loom)]
macro_rules! constant {
    ($($function:tt)*) => { $($function)* };
}

pub(crate) use constant;
pub(crate) use shared;
