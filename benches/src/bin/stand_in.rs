// SPDX-License-Identifier: Apache-2.0 OR MIT
//! [`stand_in`] as a process, for benches in another language: the page is the argument, standard
//! input the socket, and standard output the eventfd.
#![expect(
    clippy::expect_used,
    reason = "a bench that cannot run says why and ends"
)]

use std::fs::File;
use std::io::{stdin, stdout};

use sysgenid_benches::{stand_in, write_eventfd};
use sysgenid_sys::page::CounterPageMut;

fn main() {
    let page = std::env::args_os().nth(1).expect("the path of a page");
    let file = File::options().read(true).write(true).open(page);
    let counter = CounterPageMut::map(file.expect("a page")).expect("a mapping");
    stand_in(&counter, || write_eventfd(stdout()), stdin());
}
