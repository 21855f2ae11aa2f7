// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Where in the kernel allocations fail.

use std::fs;

/// The kinds of faults that are injected, by their folders.
const KINDS: [&str; 3] = ["failslab", "fail_page_alloc", "fail_usercopy"];

/// While it lives, only what is called by one function of the kernel fails, for all threads, unless
/// another function is in between.
pub(super) struct Within;

impl Within {
    pub(super) fn function(name: &str, not_within: &str) -> Self {
        set("require", addresses(name));
        set("reject", addresses(not_within));
        Self
    }
}

impl Drop for Within {
    fn drop(&mut self) {
        set("require", (0, u64::MAX));
        set("reject", (0, 0));
    }
}

fn set(what: &str, (start, end): (u64, u64)) {
    for kind in KINDS {
        for (edge, address) in [("start", start), ("end", end)] {
            let path = format!("/sys/kernel/debug/{kind}/{what}-{edge}");
            let written = fs::write(&path, format!("{address:#x}"));
            written.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }
}

/// Where a function begins, and where the next one does.
fn addresses(name: &str) -> (u64, u64) {
    let path = "/proc/kallsyms";
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let symbols = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        Some((address, words.nth(1)?))
    });
    let mut symbols: Vec<_> = symbols.collect();
    symbols.sort_unstable();
    let found = symbols.iter().find(|(_, symbol)| *symbol == name);
    let (start, _) = *found.unwrap_or_else(|| panic!("the kernel has no {name}"));
    let next = symbols.iter().find(|(address, _)| *address > start);
    (start, next.expect("it is not the last").0)
}
