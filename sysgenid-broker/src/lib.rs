// SPDX-License-Identifier: Apache-2.0 OR MIT
#![doc = include_str!("../README.md")]
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod background;
mod directory;
mod error;
pub mod follow;
pub mod model;
mod process;
mod retire;
mod server;
mod socket;
mod state;
pub mod testing;

pub use background::{Background, spawn};
pub use directory::{Incident, usual_directory};
pub use error::Error;
pub use server::{Server, Stopper};
