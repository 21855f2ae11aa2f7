// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The generators in the hands of crates that take the traits of earlier versions of rand_core.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::collections::HashSet;

use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{Signature, SigningKey, VerifyingKey};
use rand::rngs::StdRng;
use rand_09::seq::SliceRandom;
use sysgenid::{KernelRng, ProcessWide, SnapshotSafeRng};

fn own() -> SnapshotSafeRng<StdRng> {
    SnapshotSafeRng::new(ProcessWide).unwrap()
}

/// rand_core 0.6, as a crate for elliptic curves takes it.
#[test]
fn keys_are_made_by_generators_of_rand_core_0_6() {
    fn check(rng: &mut (impl rand_core_06::RngCore + rand_core_06::CryptoRng)) -> Vec<u8> {
        let key = SigningKey::random(rng);
        let signature: Signature = key.sign(b"message");
        let public = VerifyingKey::from(&key);
        public.verify(b"message", &signature).unwrap();
        assert_ne!(rng.next_u64(), rng.next_u64());
        assert_ne!(
            [rng.next_u32(), rng.next_u32()],
            [rng.next_u32(), rng.next_u32()]
        );
        let mut bytes = [0; 16];
        rng.try_fill_bytes(&mut bytes).unwrap();
        assert_ne!(bytes, [0; 16]);
        key.to_bytes().to_vec()
    }
    let mut keys = HashSet::new();
    for _ in 0..2 {
        assert!(keys.insert(check(&mut sysgenid::rng())));
        assert!(keys.insert(check(&mut KernelRng)));
        assert!(keys.insert(check(&mut own())));
    }
}

/// rand_core 0.9, as rand 0.9 takes it.
#[test]
fn numbers_are_drawn_by_generators_of_rand_core_0_9() {
    fn check(rng: &mut impl rand_09::CryptoRng) -> Vec<u8> {
        let mut bytes: Vec<u8> = rand_09::Rng::random::<[u8; 32]>(rng).to_vec();
        let mut cards: Vec<u8> = (0..52).collect();
        cards.shuffle(rng);
        assert_ne!(cards, (0..52).collect::<Vec<_>>(), "shuffled");
        let die = rand_09::Rng::random_range(rng, 1..=6);
        assert!((1..=6).contains(&die));
        bytes.extend(cards);
        bytes
    }
    use rand_09::TryRngCore;
    let mut drawn = HashSet::new();
    for _ in 0..2 {
        assert!(drawn.insert(check(&mut sysgenid::rng())));
        assert!(drawn.insert(check(&mut KernelRng.unwrap_err())));
        assert!(drawn.insert(check(&mut own().unwrap_err())));
    }
}
