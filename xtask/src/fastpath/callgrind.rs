// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What callgrind writes: for each function the instructions of its own, and for each of its calls
//! those of the callee and all below.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// Counts only what happens within the function that the program has for that, and writes names in
/// full.
pub(super) const OPTIONS: [&str; 5] = [
    "--quiet",
    "--tool=callgrind",
    "--toggle-collect=fastpath_measured",
    "--compress-strings=no",
    "--compress-pos=no",
];

/// The instructions of one use of each function that is named, with what it calls, but without its
/// own return: inlined, it has none.
pub(super) fn per_use<'a>(
    text: &str,
    names: impl Iterator<Item = &'a str>,
    uses: u64,
) -> Result<BTreeMap<String, u64>> {
    let inclusive = inclusive(text);
    names
        .map(|name| {
            let total = inclusive.get(name).copied().unwrap_or(0);
            if total == 0 || total % uses != 0 {
                return Err(Error::new(format!(
                    "{name}: {total} instructions in {uses} uses, which are not all alike"
                )));
            }
            Ok((name.to_owned(), total / uses - 1))
        })
        .collect()
}

/// By callee: the sum over all calls.
///
/// ```text
/// cfn=NAME
/// calls=COUNT LINE
/// LINE INSTRUCTIONS
/// ```
///
/// The count is of no use: it has calls from before the counting began.
fn inclusive(text: &str) -> BTreeMap<&str, u64> {
    let mut sums = BTreeMap::new();
    let mut callee = None;
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix("cfn=") {
            callee = Some(name);
        } else if line.starts_with("calls=") {
            let cost = lines.next().and_then(|line| line.split_whitespace().nth(1));
            if let (Some(name), Some(Ok(cost))) = (callee.take(), cost.map(str::parse::<u64>)) {
                *sums.entry(name).or_default() += cost;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "fn=caller\n0 16\ncfn=load\ncalls=9 0 \n0 24\n0 48\ncfn=draw\ncalls=4 0 \n0 160\n\
                        cfn=draw\ncalls=5 0 \n0 160\n\nfn=load\n0 24\n";

    #[test]
    fn what_a_function_calls_counts_and_its_return_does_not() {
        let counts = per_use(TEXT, ["load", "draw"].into_iter(), 8).unwrap();
        assert_eq!(counts["load"], 2);
        assert_eq!(counts["draw"], 39);
    }

    #[test]
    fn uses_that_differ_and_functions_that_are_missing_are_errors() {
        assert!(per_use(TEXT, ["load"].into_iter(), 7).is_err());
        assert!(per_use(TEXT, ["nothing"].into_iter(), 8).is_err());
    }
}
