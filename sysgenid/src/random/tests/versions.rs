// SPDX-License-Identifier: Apache-2.0 OR MIT
use std::panic::catch_unwind;

use chacha20::ChaCha12Rng;
use rand_core_06::RngCore;
use rand_core_09::TryRngCore;

use super::Script;
use crate::random::entropy::test::fail_after;
use crate::random::{KernelRng, SnapshotSafeRng};

#[test]
fn by_earlier_traits_a_lack_of_entropy_is_an_error_or_a_panic_as_well() {
    fn check(mut rng: impl RngCore) {
        let mut bytes = [0xa5; 32];
        let error = RngCore::try_fill_bytes(&mut rng, &mut bytes).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSYS));
        assert_eq!(bytes, [0; 32]);
    }
    fail_after(0);
    check(KernelRng);
    check(crate::rng());
    assert!(catch_unwind(|| RngCore::next_u32(&mut KernelRng)).is_err());
    assert!(catch_unwind(|| RngCore::fill_bytes(&mut KernelRng, &mut [0])).is_err());
    let error = TryRngCore::try_next_u64(&mut KernelRng).unwrap_err();
    assert!(error.is_entropy());
    fail_after(None);

    let witness = Script::new();
    let mut rng = SnapshotSafeRng::<ChaCha12Rng, _>::new(&*witness).unwrap();
    witness.restore();
    fail_after(0);
    assert!(TryRngCore::try_next_u32(&mut rng).unwrap_err().is_entropy());
    check(&mut rng);
    fail_after(None);
}
