// SPDX-License-Identifier: Apache-2.0 OR MIT
#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod background;
mod error;
mod folder;
pub mod model;
mod process;
mod reserve;
mod server;
mod signal;
mod socket;
mod state;

pub use background::{Background, spawn};
pub use error::Error;
pub use server::{Server, Stopper};
