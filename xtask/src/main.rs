// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Everything a person or CI runs.
fn main() {}
