// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Random operations of several watchers, on an implementation and on the model of the device,
//! whose results must be the same.
//!
//! The device must belong to the run alone: somebody else's watchers would be waited for.

mod comparison;
mod device;
#[cfg(test)]
mod double;
mod operation;
mod sdk;
mod system_calls;

use std::cell::Cell;
use std::fmt::Write;
use std::time::Duration;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use sysgenid::SourceKind;

use self::comparison::Comparison;
use self::device::Device;
use self::operation::Operation;
use crate::raw::Node;
use crate::suite::Case;
use crate::typed;

/// How long what must happen may take. Less than a single case has, because a failed comparison is
/// repeated with shorter sequences.
const PATIENCE: Duration = Duration::from_secs(5);

/// What to compare, and how much.
#[derive(Clone, Debug)]
pub struct Subject {
    /// The device.
    pub source: typed::Subject,
    /// How many sequences.
    pub sequences: u32,
    /// Where the random numbers begin: the same seed makes the same sequences.
    pub seed: u64,
}

const OVER_THE_SDK: &Case<Subject> = &Case {
    name: "model_agrees_with_the_sdk",
    run: model_agrees_with_the_sdk,
};
const OVER_SYSTEM_CALLS: &Case<Subject> = &Case {
    name: "model_agrees_with_system_calls",
    run: model_agrees_with_system_calls,
};

/// The comparisons for a kind of source.
pub fn cases(kind: SourceKind) -> impl Iterator<Item = &'static Case<Subject>> {
    let raw = (kind == SourceKind::Device).then_some(OVER_SYSTEM_CALLS);
    raw.into_iter().chain([OVER_THE_SDK])
}

fn model_agrees_with_the_sdk(subject: &Subject) {
    print_and_expect(subject, &sdk::Sdk::new(&subject.source));
}

fn model_agrees_with_system_calls(subject: &Subject) {
    print_and_expect(
        subject,
        &Node::new(subject.source.path().to_owned(), subject.source.dialect()),
    );
}

fn print_and_expect(subject: &Subject, device: &dyn Device) {
    let result = compare(device, subject.sequences, subject.seed, PATIENCE);
    // The cases of the end of the range do so too.
    if device.page() != u32::MAX {
        device.trigger(u32::MAX);
    }
    device.trigger(0);
    match result {
        Ok(operations) => println!(
            "# {} sequences of {operations} operations in all, seed {}",
            subject.sequences, subject.seed
        ),
        Err(difference) => panic!("{difference}\nseed {}", subject.seed),
    }
}

/// Runs sequences, and returns how many operations they had; or the shortest sequence found for
/// which the device and the model differ.
fn compare(
    device: &dyn Device,
    sequences: u32,
    seed: u64,
    patience: Duration,
) -> Result<usize, String> {
    let config = Config {
        cases: sequences,
        failure_persistence: None,
        max_shrink_iters: 1_000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let operations = Cell::new(0);
    let sequences_of = operation::sequences(device.can_untrack());
    let run = |sequence: Vec<Operation>| {
        operations.set(operations.get() + sequence.len());
        Comparison::new(device, patience)
            .run(&sequence)
            .map_err(TestCaseError::fail)
    };
    match TestRunner::new_with_rng(config, rng).run(&sequences_of, run) {
        Ok(()) => Ok(operations.get()),
        Err(TestError::Fail(reason, sequence)) => {
            let mut text = format!("{reason}\nafter");
            for operation in sequence {
                let _ = write!(text, "\n  {operation:?}");
            }
            Err(text)
        }
        Err(TestError::Abort(reason)) => Err(format!("gave up: {reason}")),
    }
}
