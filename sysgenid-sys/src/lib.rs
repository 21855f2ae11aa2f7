// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Raw ABI of the *system generation*: the `/dev/sysgenid` device in its live dialects, the mapped
//! counter page, and the wire format of the userspace driver.
//!
//! The system generation is a `u32` that changes when a virtual machine or container is restored
//! or cloned from a snapshot. This crate is the C header said in Rust: free functions over
//! borrowed descriptors, plain integers, no policy and no allocation. Applications want the
//! `sysgenid` crate instead, which owns names, state, deadlines and retries.
//!
//! # Anatomy
//!
//! - [`abi`]: the ioctl numbers of each dialect, and the numbers that are the same in all.
//! - [`device`]: one function per operation of the device; [`device::Device`] is one that was proven
//!   to be it, and the only way to its ioctls.
//! - [`fdinfo`]: the state of a watcher of any process, from `/proc`.
//! - [`page`]: the mapped counter, one load to read (feature `std`).
//! - [`slot`]: memory in which a client acknowledges to the userspace driver (feature `std`).
//! - [`vmclock`]: where the fields of mainline's `/dev/vmclockN` lie that tell of restores, and its
//!   mapped page (feature `std`).
//! - [`wire`]: the messages between a client and the userspace driver.
//!
//! # What it does not do
//!
//! It does not retry on `EINTR`, keep deadlines, look for devices, or explain errors. It does not
//! guess a dialect: the numbers of the dialects collide, so an ioctl takes a
//! [`Device`](device::Device), which has detected its own.
//!
//! # Platforms and features
//!
//! Linux only: on other systems the crate is empty. Without the default feature `std` it is
//! `no_std` and has no module that maps memory. Minimum Rust: 1.85.
#![cfg(target_os = "linux")]
#![cfg_attr(not(feature = "std"), no_std)]

pub mod abi;
pub mod device;
pub mod fdinfo;
#[doc(hidden)]
pub mod internal;
mod misc;
#[cfg(feature = "std")]
pub mod page;
#[cfg(feature = "std")]
pub mod slot;
pub mod vmclock;
pub mod wire;

/// The kernel's error number, as every function of this crate returns it.
///
/// It is rustix's type: this crate is as raw as rustix is, and a second one would only be in the
/// way.
pub use rustix::io::Errno;
