// SPDX-License-Identifier: Apache-2.0 OR MIT
use crate::shared::{forgetful, wiped};
use crate::world::make_hazy;

#[test]
fn readers_have_the_value_in_common() {
    let (guarded, world, fate) = wiped();
    let (mut one, mut other) = (guarded.reader(), guarded.reader());
    for number in 1..=3 {
        assert_eq!(one.get().unwrap().number, number);
        assert_eq!(other.with(|secret| secret.number).unwrap(), number);
        assert_eq!(guarded.with(|secret| secret.number).unwrap(), number);
        world.restore();
    }
    assert_eq!(fate.counts(), (3, 2, 2));
}

#[test]
fn an_idle_reader_keeps_the_old_value_and_does_not_hand_it_out() {
    let (guarded, world, fate) = wiped();
    let mut reader = guarded.reader();
    reader.get().unwrap();
    world.restore();
    guarded.with(|_| ()).unwrap();
    assert_eq!(fate.counts(), (2, 0, 0));
    assert_eq!(reader.get().unwrap().number, 2);
    assert_eq!(fate.counts(), (2, 1, 1));
    world.restore();
    drop(reader);
    guarded.with(|_| ()).unwrap();
    assert_eq!(fate.counts(), (3, 2, 2));
}

#[test]
fn a_transaction_commits_once_and_with_what_is_current() {
    let (guarded, world, _) = wiped();
    let mut reader = guarded.reader();
    let (mut runs, mut committed) = (0, Vec::new());
    reader
        .transaction(
            |secret| {
                runs += 1;
                if runs < 3 {
                    world.restore();
                }
                secret.number
            },
            |number| committed.push(number),
        )
        .unwrap();
    assert_eq!((runs, committed), (3, vec![3]));

    let error = reader
        .transaction(|_| world.restore(), |()| panic!("it was committed"))
        .unwrap_err();
    assert!(error.is_unsettled());
}

#[test]
fn a_value_that_was_once_overtaken_is_not_used_again() {
    // A look at nothing; before the build and after it.
    let guarded = forgetful(3);
    let mut seen = Vec::new();
    let used = guarded.reader().with(|secret| seen.push(secret.number));
    used.unwrap();
    assert_eq!(seen, [1, 2]);
}

#[test]
fn a_glance_that_tells_nothing_rebuilds_nothing() {
    let (guarded, world, fate) = wiped();
    make_hazy(&world);
    let mut reader = guarded.reader();
    for _ in 0..3 {
        assert_eq!(reader.get().unwrap().number, 1);
    }
    assert_eq!(fate.counts(), (1, 0, 0));
}
