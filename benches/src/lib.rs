// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Placeholder until the first commit of this crate.
