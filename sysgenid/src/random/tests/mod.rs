// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Changes at every look that a draw takes, and entropy that fails.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

mod model;
#[cfg(all(feature = "rand_core_06", feature = "rand_core_09"))]
mod versions;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use chacha20::ChaCha12Rng;
use proptest::prelude::*;
use rand_core::{Infallible, Rng, SeedableRng, TryRng, UnwrapErr};

use self::model::Model;
use super::SnapshotSafeRng;
use super::buffer::Buffer;
use crate::check::unchanged::ATTEMPTS;
use crate::check::{ProcessWide, RestoreOnly, Witness};
use crate::random::entropy::test::{calls, fail_after, on_call};
use crate::testing::{Look, Restores};

/// A world in which something changes just before chosen looks, counted from 0; and whenever
/// [`change_here`] is called.
struct Script {
    world: Restores,
    looks: Arc<Looks>,
}

#[derive(Default)]
struct Looks {
    count: AtomicU32,
    changes: Mutex<BTreeSet<u32>>,
    /// Whether a glance leaves everything open, as one does without `MADV_WIPEONFORK`.
    are_shy: AtomicBool,
}

impl Script {
    fn new() -> Self {
        Self::of(Restores::new())
    }

    fn of(world: Restores) -> Self {
        let looks = Arc::new(Looks::default());
        let script = Arc::clone(&looks);
        world.before_looks(move |world, look| {
            let number = script.count.fetch_add(1, SeqCst);
            if script.changes.lock().unwrap().contains(&number) {
                world.restore();
            }
            if look == Look::Glance && script.are_shy.load(SeqCst) {
                world.blur();
            }
        });
        HERE.set(Some(world.clone()));
        Self { world, looks }
    }

    fn now(&self) -> u64 {
        self.generation().get()
    }

    fn be_shy(&self, whether: bool) {
        self.looks.are_shy.store(whether, SeqCst);
    }

    /// Changes at these looks from now on.
    fn restart(&self, changes: impl IntoIterator<Item = u32>) {
        self.looks.count.store(0, SeqCst);
        *self.looks.changes.lock().unwrap() = changes.into_iter().collect();
    }
}

impl Deref for Script {
    type Target = Restores;

    fn deref(&self) -> &Restores {
        &self.world
    }
}

/// As `ThreadRng` does it: small numbers of words have a way of their own.
fn fill(buffer: &mut Buffer, witness: &Restores, bytes: &mut [u8]) -> crate::Result<()> {
    fn words<const N: usize>(buffer: &mut Buffer, witness: &Restores) -> Option<Vec<u8>> {
        buffer.need(N);
        let words = buffer.words::<N>(witness);
        Some(words?.map(u32::to_le_bytes).concat())
    }
    let words = match bytes.len() {
        4 => words::<1>(buffer, witness),
        8 => words::<2>(buffer, witness),
        16 => words::<4>(buffer, witness),
        32 => words::<8>(buffer, witness),
        _ => None,
    };
    match words {
        Some(words) => bytes.copy_from_slice(&words),
        None => buffer.fill(witness, bytes)?,
    }
    Ok(())
}

thread_local! {
    /// The world of this test's last script.
    static HERE: RefCell<Option<Restores>> = const { RefCell::new(None) };

    /// At which of the next calls of a spied generator something changes there.
    static CHANGES: RefCell<VecDeque<bool>> = const { RefCell::new(VecDeque::new()) };

    /// The seeds of all the generators that this test made.
    static SEEDS: RefCell<Vec<[u8; 32]>> = const { RefCell::new(Vec::new()) };
}

/// ChaCha, but the test knows the seeds.
struct Spied(ChaCha12Rng);

impl SeedableRng for Spied {
    type Seed = [u8; 32];

    fn from_seed(seed: Self::Seed) -> Self {
        SEEDS.with_borrow_mut(|seeds| seeds.push(seed));
        Self(ChaCha12Rng::from_seed(seed))
    }
}

impl TryRng for Spied {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        meddle();
        self.0.try_next_u32()
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        meddle();
        self.0.try_next_u64()
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        meddle();
        self.0.try_fill_bytes(bytes)
    }
}

/// A change that nobody looks at when it happens.
fn change_here() {
    HERE.with_borrow(|world| world.as_ref().unwrap().restore());
}

fn meddle() {
    if CHANGES.with_borrow_mut(VecDeque::pop_front) == Some(true) {
        change_here();
    }
}

fn last_seed() -> [u8; 32] {
    SEEDS.with_borrow(|seeds| *seeds.last().unwrap())
}

/// What a user of a generator does with it.
#[derive(Clone, Copy, Debug)]
enum Draw {
    U32,
    U64,
    Fill(usize),
}

impl Draw {
    fn from<R: TryRng>(self, rng: &mut R) -> Result<Vec<u8>, R::Error> {
        Ok(match self {
            Self::U32 => rng.try_next_u32()?.to_le_bytes().to_vec(),
            Self::U64 => rng.try_next_u64()?.to_le_bytes().to_vec(),
            Self::Fill(length) => {
                let mut bytes = vec![0xa5; length];
                rng.try_fill_bytes(&mut bytes)?;
                bytes
            }
        })
    }
}

fn draw() -> impl Strategy<Value = Draw> {
    prop_oneof![
        Just(Draw::U32),
        Just(Draw::U64),
        (0..40_usize).prop_map(Draw::Fill),
        (0..5000_usize).prop_map(Draw::Fill),
    ]
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0..3000_usize, Just(4), Just(8), Just(16), Just(32)]
}

/// A draw; the looks before which something changes; the calls of the generator in which it does.
fn step() -> impl Strategy<Value = (Draw, BTreeSet<u32>, Vec<bool>)> {
    let looks = prop::collection::btree_set(0..12_u32, 0..6);
    let calls = prop::collection::vec(any::<bool>(), 0..6);
    (draw(), looks, calls)
}

proptest! {
    #[test]
    fn without_a_change_the_numbers_are_those_of_the_generator(
        draws in prop::collection::vec(draw(), 1..30),
        is_shy: bool,
    ) {
        let witness = Script::new();
        witness.be_shy(is_shy);
        let mut rng = SnapshotSafeRng::<Spied, _>::new(&*witness).unwrap();
        let mut plain = ChaCha12Rng::from_seed(last_seed());
        for draw in draws {
            let expected = draw.from(&mut plain).unwrap();
            prop_assert_eq!(draw.from(&mut rng).unwrap(), expected, "{:?}", draw);
        }
    }

    /// Each number is the next of the newest generator, and that was seeded in the generation in
    /// which the number is returned.
    #[test]
    fn no_number_is_drawn_across_a_change(
        script in prop::collection::vec(step(), 1..12),
    ) {
        let witness = Script::new();
        let mut rng = SnapshotSafeRng::<Spied, _>::new(&*witness).unwrap();
        let (mut seed, mut plain) = (last_seed(), ChaCha12Rng::from_seed(last_seed()));
        for (draw, looks, calls) in script {
            let before = witness.now();
            witness.restart(looks);
            CHANGES.set(calls.into());
            let drawn = draw.from(&mut rng).unwrap();
            let changed = witness.now() - before;
            if last_seed() == seed {
                prop_assert_eq!(changed, 0, "a change, and no new seed");
            } else {
                seed = last_seed();
                plain = ChaCha12Rng::from_seed(seed);
            }
            // In the end, the kernel's own.
            if drawn != draw.from(&mut plain).unwrap() {
                prop_assert!(changed >= u64::from(ATTEMPTS), "not the next number");
                plain = ChaCha12Rng::from_seed(seed);
            }
        }
        CHANGES.take();
    }

    /// [`Model`] says what it hands out.
    #[test]
    fn the_buffer_hands_out_each_word_once(lengths in prop::collection::vec(length(), 1..60)) {
        let witness = Script::new();
        let mut buffer = Buffer::EMPTY;
        fill(&mut buffer, &witness, &mut []).unwrap();
        buffer.set_key([7; 32]);
        fail_after(0); // No entropy is added.
        let mut model = Model::new([7; 32]);
        for length in lengths {
            let mut bytes = vec![0; length + 4];
            // From where a word may begin, as the model does.
            let start = bytes.as_ptr().align_offset(4);
            let bytes = &mut bytes[start..start + length];
            fill(&mut buffer, &witness, bytes).unwrap();
            prop_assert_eq!(&*bytes, model.fill(length));
            prop_assert!(buffer.used_is_erased());
        }
        fail_after(None);
    }
}

/// What a copy of the buffer gives in a restored machine has nothing in common with what the
/// original gives, whenever the restore comes.
#[test]
fn no_byte_of_a_buffer_is_drawn_across_a_change() {
    for is_shy in [false, true] {
        for length in [
            1,
            4,
            8,
            16,
            17,
            32,
            Buffer::BYTES,
            3 * Buffer::BYTES + 5,
            1 << 20,
        ] {
            let original = Script::new();
            original.be_shy(is_shy);
            let mut buffer = Buffer::EMPTY;
            fill(&mut buffer, &original, &mut [0; 100]).unwrap();
            let copy = |changes: &[u32]| {
                // Each time the same world, of which there are copies.
                let witness = Script::of(original.world.clone());
                witness.restore_to(0);
                witness.be_shy(is_shy);
                witness.restart(changes.iter().copied());
                let mut bytes = vec![0; length];
                fail_after((1 << 20) * u32::from(!changes.is_empty()));
                fill(&mut buffer.clone(), &witness, &mut bytes).unwrap();
                fail_after(None);
                (bytes, witness.looks.count.load(SeqCst))
            };
            // Without a change, and without entropy, two copies draw the same.
            let (unchanged, looks) = copy(&[]);
            assert_eq!(copy(&[]).0, unchanged, "the control");
            assert!(looks > 0, "nobody looked");
            for look in 0..looks {
                let [(a, _), (b, _)] = [copy(&[look]), copy(&[look])];
                let size = length.min(16);
                if size >= 8 {
                    for ((a, b), c) in a
                        .chunks_exact(size)
                        .zip(b.chunks_exact(size))
                        .zip(unchanged.chunks_exact(size))
                    {
                        assert!(
                            a != b && a != c && b != c,
                            "look {look} of {looks}, {length} bytes"
                        );
                    }
                }
            }
        }
    }
}

/// Something changes once, after the mark, while the kernel gives the seed. Returns how often it is
/// asked for one.
fn seeds_if_the_first_is_late(draw: impl FnOnce()) -> u32 {
    let calls = Rc::new(Cell::new(0));
    let count = Rc::clone(&calls);
    on_call(move || {
        count.set(count.get() + 1);
        if count.get() == 1 {
            change_here();
        }
    });
    draw();
    on_call(|| {});
    calls.get()
}

#[test]
fn a_seed_is_not_used_that_was_drawn_across_a_change() {
    let witness = Script::new();
    let mut rng = SnapshotSafeRng::<Spied, _>::new(&*witness).unwrap();
    let mut buffer = Buffer::EMPTY;
    fill(&mut buffer, &witness, &mut [0; 16]).unwrap();
    witness.restore();
    let seeds = seeds_if_the_first_is_late(|| rng.try_fill_bytes(&mut [0; 16]).unwrap());
    assert_eq!(seeds, 2);
    witness.restore();
    let seeds = seeds_if_the_first_is_late(|| fill(&mut buffer, &witness, &mut [0; 16]).unwrap());
    assert_eq!(seeds, 2);
}

#[test]
fn a_draw_ends_though_changes_do_not() {
    let witness = Script::new();
    let mut rng = SnapshotSafeRng::<Spied, _>::new(&*witness).unwrap();
    witness.restart(0..1000);
    let drawn: Vec<_> = (0..3).map(|_| rng.try_next_u64().unwrap()).collect();
    assert!(drawn[0] != drawn[1] && drawn[1] != drawn[2], "{drawn:?}");

    let mut buffer = Buffer::EMPTY;
    let (mut a, mut b) = ([0; 32], [0; 32]);
    fill(&mut buffer, &witness, &mut a).unwrap();
    fill(&mut buffer, &witness, &mut b).unwrap();
    assert!(a != b && a != [0; 32] && b != [0; 32]);
}

/// The witnesses around another one pass the question on.
#[test]
fn where_restores_are_not_seen_there_is_no_generator() {
    let witness = Script::of(Restores::without_source());
    let witnesses: [&dyn Witness; 3] = [&*witness, &&*witness, &RestoreOnly(&*witness)];
    for witness in witnesses {
        assert!(!witness.shows_restores());
        let mut rng = SnapshotSafeRng::<Spied, _>::new(witness).unwrap();
        for number in 0..3 {
            let before = calls();
            rng.try_next_u32().unwrap();
            let drawn = [rng.try_next_u64().unwrap(), rng.try_next_u64().unwrap()];
            assert_ne!(drawn[0], drawn[1]);
            rng.try_fill_bytes(&mut [0; 10]).unwrap();
            assert_eq!(calls(), before + 4, "round {number}");
        }
        fail_after(0);
        let mut bytes = [0xa5; 32];
        assert!(rng.try_fill_bytes(&mut bytes).unwrap_err().is_entropy());
        assert_eq!(bytes, [0; 32]);
        assert!(rng.reseed().unwrap_err().is_entropy());
        fail_after(None);
    }
    assert_eq!(SEEDS.with_borrow(Vec::len), 0);

    // A source appears.
    let mut rng = SnapshotSafeRng::<Spied, _>::new(&*witness).unwrap();
    witness.appear();
    rng.try_next_u64().unwrap();
    let before = calls();
    rng.try_next_u64().unwrap();
    assert_eq!(calls(), before);
    assert_eq!(SEEDS.with_borrow(Vec::len), 1);
}

#[test]
fn without_entropy_nothing_is_made_and_nothing_returned() {
    fail_after(0);
    let error = SnapshotSafeRng::<ChaCha12Rng>::new(ProcessWide).unwrap_err();
    assert!(error.is_entropy(), "{error}");
    fail_after(None);

    let witness = Script::new();
    let mut rng = SnapshotSafeRng::<ChaCha12Rng, _>::new(&*witness).unwrap();
    fail_after(0);
    rng.try_next_u64().unwrap();
    witness.restore();
    let mut bytes = [0xa5; 32];
    assert!(rng.try_fill_bytes(&mut bytes).unwrap_err().is_entropy());
    assert_eq!(bytes, [0; 32], "no byte of the old generator");
    assert!(rng.try_next_u32().unwrap_err().is_entropy(), "still");
    fail_after(None);
    rng.try_fill_bytes(&mut bytes).unwrap();
    assert_ne!(bytes, [0; 32]);
}

#[test]
fn a_buffer_without_entropy_returns_nothing_after_a_change_but_goes_on_before_it() {
    let witness = Script::new();
    let mut buffer = Buffer::EMPTY;
    fill(&mut buffer, &witness, &mut [0; 1]).unwrap();
    fail_after(0);
    let mut many = vec![0; 1 << 20];
    fill(&mut buffer, &witness, &mut many).unwrap();
    assert!(many.windows(16).all(|window| window != [0; 16]));

    witness.restore();
    for length in [16, 100_000] {
        let mut bytes = vec![0xa5; length];
        let error = fill(&mut buffer, &witness, &mut bytes).unwrap_err();
        assert!(error.is_entropy());
        assert!(
            bytes.iter().all(|&byte| byte == 0),
            "no byte of the old key"
        );
    }
    fail_after(None);
    fill(&mut buffer, &witness, &mut [0; 16]).unwrap();
}

#[test]
fn entropy_is_added_after_64_kib() {
    for size in [16, 1024, 100_000] {
        let witness = Script::new();
        let mut buffer = Buffer::EMPTY;
        fill(&mut buffer, &witness, &mut [0; 1]).unwrap();
        let mut copy = buffer.clone();
        let (mut a, mut b) = (vec![0; size], vec![0; size]);
        let mut drawn = 0;
        loop {
            fill(&mut buffer, &witness, &mut a).unwrap();
            fill(&mut copy, &witness, &mut b).unwrap();
            drawn += size;
            let mut both = a.chunks(16).zip(b.chunks(16));
            if let Some(alike) = both.position(|(a, b)| a != b) {
                let before = drawn - size + 16 * alike;
                assert!(before <= 64 * 1024, "{before}, by {size}");
                assert!(before > 60 * 1024 || size > 16, "too often: {before}");
                break;
            }
            assert!(drawn < 100_000, "they are copies still");
        }
    }
}

/// Where a word may not begin, and in the middle of blocks.
#[test]
fn any_place_in_memory_is_filled_to_its_end() {
    let witness = Script::new();
    let mut buffer = Buffer::EMPTY;
    for start in 0..5 {
        for length in [Buffer::LARGE, Buffer::LARGE + 1, 3 * Buffer::LARGE - 1] {
            let mut bytes = vec![0; start + length + 16];
            fill(&mut buffer, &witness, &mut bytes[start..start + length]).unwrap();
            let zeros = [0; 16];
            assert_eq!(bytes[start + length..], zeros);
            assert_eq!(bytes[..start], zeros[..start]);
            // 8 zeros in a row are not chance.
            let filled = &bytes[start..start + length];
            assert!(filled.windows(8).all(|window| window != [0; 8]));
        }
    }
}

#[test]
#[should_panic(expected = "random")]
fn an_infallible_generator_panics_without_entropy() {
    let witness = Script::new();
    let rng = SnapshotSafeRng::<ChaCha12Rng, _>::new(&*witness).unwrap();
    witness.restore();
    fail_after(0);
    UnwrapErr(rng).next_u32();
}

#[test]
fn debug_shows_no_state() {
    let rng = SnapshotSafeRng::<ChaCha12Rng>::new(ProcessWide).unwrap();
    assert_eq!(
        format!("{rng:?}"),
        "SnapshotSafeRng { witness: ProcessWide, .. }"
    );
    assert_eq!(format!("{:?}", crate::rng()), "ThreadRng { .. }");
}
