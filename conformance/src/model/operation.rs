// SPDX-License-Identifier: Apache-2.0 OR MIT
use proptest::collection::vec;
use proptest::prelude::*;

/// One call. Numbers of watchers are taken modulo the number of those that can be called, so any
/// part of a sequence is a sequence.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    /// Opens a watcher.
    Open { tracked: bool },
    /// Closes one.
    Close(u8),
    /// Acknowledges the current generation.
    Acknowledge(u8),
    /// Acknowledges a generation that is so far from the current one.
    AcknowledgeStale(u8, i8),
    /// Turns tracking on or off.
    SetTracking(u8, bool),
    /// Reads without blocking.
    Read(u8),
    /// Polls without blocking.
    Poll(u8),
    /// Waits for the watchers, for a moment if that would block.
    Wait(u8),
    /// Waits for the watchers in the background, until an operation of another ends it.
    StartWait(u8),
    /// Changes the generation.
    Trigger(Minimum),
    /// Compares the counts, where the device tells them.
    Count,
}

/// The argument of a trigger.
#[derive(Clone, Copy, Debug)]
pub(super) enum Minimum {
    /// So far from the current generation.
    Near(i8),
    /// A small number.
    Small(u8),
    /// So far beyond the largest signed number.
    BeyondSigned(i8),
    /// So far before the largest number.
    BeforeEnd(u8),
}

impl Minimum {
    pub(super) fn number(self, generation: u32) -> u32 {
        match self {
            Self::Near(distance) => generation.wrapping_add_signed(distance.into()),
            Self::Small(number) => number.into(),
            Self::BeyondSigned(distance) => 0x7fff_ffff_u32.wrapping_add_signed(distance.into()),
            Self::BeforeEnd(distance) => u32::MAX - u32::from(distance),
        }
    }
}

/// Sequences that begin without watchers. Without `can_untrack`, every watcher is tracked.
pub(super) fn sequences(can_untrack: bool) -> impl Strategy<Value = Vec<Operation>> {
    vec(operation(can_untrack), 1..50)
}

fn operation(can_untrack: bool) -> impl Strategy<Value = Operation> {
    let watcher = any::<u8>;
    let tracked = move || any::<bool>().prop_map(move |tracked| tracked || !can_untrack);
    prop_oneof![
        5 => tracked().prop_map(|tracked| Operation::Open { tracked }),
        2 => watcher().prop_map(Operation::Close),
        6 => watcher().prop_map(Operation::Acknowledge),
        1 => (watcher(), distance()).prop_map(|(watcher, by)| Operation::AcknowledgeStale(watcher, by)),
        3 => (watcher(), tracked()).prop_map(|(watcher, on)| Operation::SetTracking(watcher, on)),
        2 => watcher().prop_map(Operation::Read),
        2 => watcher().prop_map(Operation::Poll),
        4 => watcher().prop_map(Operation::Wait),
        2 => watcher().prop_map(Operation::StartWait),
        5 => minimum().prop_map(Operation::Trigger),
        1 => Just(Operation::Count),
    ]
}

fn minimum() -> impl Strategy<Value = Minimum> {
    prop_oneof![
        6 => (-2_i8..4).prop_map(Minimum::Near),
        2 => (0_u8..4).prop_map(Minimum::Small),
        1 => (-1_i8..3).prop_map(Minimum::BeyondSigned),
        1 => (0_u8..3).prop_map(Minimum::BeforeEnd),
    ]
}

/// Anything but 0.
fn distance() -> impl Strategy<Value = i8> {
    prop_oneof![-3_i8..0, 1_i8..4]
}
