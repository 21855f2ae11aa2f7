# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`protect(seeded=...)`: what becomes of generators that the program has seeded on purpose."""

from __future__ import annotations

import random as stdlib
import warnings
from collections.abc import Iterator

import pytest
import support
from sysgenid import _seeds
from sysgenid import random as safe
from sysgenid.random import SeedRenewedWarning

pytestmark = pytest.mark.v6_only


@pytest.fixture(autouse=True)
def _unprotected_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # One warning for each test, and not for the process.
    monkeypatch.setattr(_seeds, "_has_warned", False)
    yield
    safe.unprotect()


def test_a_renewal_is_told_once_and_counted(trigger: support.Trigger) -> None:
    safe.protect()
    before = safe.coverage().renewed
    stdlib.seed(42)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert stdlib.random() == stdlib.Random(42).random()
    trigger()
    with pytest.warns(SeedRenewedWarning, match=r"^random was seeded") as told:
        assert stdlib.random() != stdlib.Random(42).random()
    assert told[0].filename == __file__
    for _ in range(2):
        stdlib.seed(42)
        trigger()
        # All warnings are errors here.
        assert stdlib.random() != stdlib.Random(42).random()
    assert safe.coverage().renewed == before + 3
    assert f"renewed: {before + 3}" in str(safe.coverage())


def test_a_generator_without_a_seed_is_renewed_in_silence(trigger: support.Trigger) -> None:
    safe.protect()
    stdlib.seed()
    before = safe.coverage().renewed
    trigger()
    stdlib.random()
    assert safe.coverage().renewed == before


def test_a_warning_that_is_an_error_leaves_a_new_seed(trigger: support.Trigger) -> None:
    safe.protect()
    stdlib.seed(42)
    trigger()
    with pytest.raises(SeedRenewedWarning):
        stdlib.random()
    assert stdlib.random() not in [stdlib.Random(42).random()]


def test_renew_counts_and_says_nothing(trigger: support.Trigger) -> None:
    safe.protect(seeded="renew")
    before = safe.coverage().renewed
    stdlib.seed(42)
    trigger()
    assert stdlib.random() != stdlib.Random(42).random()
    assert safe.coverage().renewed == before + 1


def test_keep_goes_on_with_the_numbers_of_the_seed(trigger: support.Trigger) -> None:
    safe.protect(seeded="keep")
    stdlib.seed(42)
    control = stdlib.Random(42)
    for _ in range(3):
        assert stdlib.random() == control.random()
        assert stdlib.gauss(0, 1) == control.gauss(0, 1)
        trigger()
        assert stdlib.getrandbits(80) == control.getrandbits(80)
        # The other one of the pair.
        assert stdlib.gauss(0, 1) == control.gauss(0, 1)
        trigger()
        assert stdlib.getstate() == control.getstate()
    stdlib.seed()
    control.setstate(stdlib.getstate())
    trigger()
    assert stdlib.random() != control.random(), "nobody has chosen this state"


def test_a_state_from_before_protect_counts_as_nobodys(trigger: support.Trigger) -> None:
    stdlib.seed(42)
    safe.protect(seeded="keep")
    trigger()
    assert stdlib.random() != stdlib.Random(42).random()


def test_a_forked_child_renews_as_the_standard_library_does() -> None:
    safe.protect(seeded="keep")
    stdlib.seed(42)
    assert support.in_child(stdlib.random) != stdlib.Random(42).random()
    assert stdlib.random() == stdlib.Random(42).random()


def test_generators_of_ones_own_are_not_kept(trigger: support.Trigger) -> None:
    safe.protect(seeded="keep")
    rng = safe.Random(42)
    trigger()
    assert rng.random() != stdlib.Random(42).random()


def test_another_word_is_refused() -> None:
    with pytest.raises(ValueError, match='"keep"'):
        safe.protect(seeded="always")  # type: ignore[arg-type]
    assert "random" not in safe.coverage().covered
