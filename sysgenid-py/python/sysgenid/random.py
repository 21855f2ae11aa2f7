# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The standard library's `random`, for programs that are restored, cloned and forked.

A restored snapshot and a forked process have a copy of the generator's state, and draw the same
numbers. Here every draw is checked, and after a change the generator is seeded anew by the kernel.

It is used like the module that it stands in for:

>>> from sysgenid import random
>>> 0.0 <= random.random() < 1.0
True
>>> random.choice(["a", "b", "c"]) in "abc"
True

Or it is put behind that module, for all that the process has loaded: see `protect`.

A draw costs at most 1.4 times what it costs in `random`. Neither module makes secrets: keys are
made from `sysgenid.entropy`, passwords and tokens by `secrets`.
"""

from __future__ import annotations

import sys
from random import SystemRandom
from typing import TYPE_CHECKING

from sysgenid._coverage import Coverage
from sysgenid._generator import Random
from sysgenid._protect import cover, coverage, protect, uncover, unprotect
from sysgenid._seeds import SeedRenewedWarning

__all__ = [
    "Coverage",
    "Random",
    "SeedRenewedWarning",
    "SystemRandom",
    "betavariate",
    "choice",
    "choices",
    "cover",
    "coverage",
    "expovariate",
    "gammavariate",
    "gauss",
    "getrandbits",
    "getstate",
    "lognormvariate",
    "normalvariate",
    "paretovariate",
    "protect",
    "randbytes",
    "randint",
    "random",
    "randrange",
    "sample",
    "seed",
    "setstate",
    "shuffle",
    "triangular",
    "uncover",
    "uniform",
    "unprotect",
    "vonmisesvariate",
    "weibullvariate",
]

# One hidden generator, as in the standard library. It is seeded when it first draws, so that an
# import warns of nothing.
_inst = Random.__new__(Random)
_inst._draws.outdate()
if TYPE_CHECKING:
    # Their signatures are the standard library's.
    from random import (
        betavariate,
        choice,
        choices,
        expovariate,
        gammavariate,
        gauss,
        getrandbits,
        getstate,
        lognormvariate,
        normalvariate,
        paretovariate,
        randbytes,
        randint,
        random,
        randrange,
        sample,
        seed,
        setstate,
        shuffle,
        triangular,
        uniform,
        vonmisesvariate,
        weibullvariate,
    )

    if sys.version_info >= (3, 12):
        from random import binomialvariate
else:
    seed = _inst.seed
    random = _inst.random
    uniform = _inst.uniform
    triangular = _inst.triangular
    randint = _inst.randint
    choice = _inst.choice
    randrange = _inst.randrange
    sample = _inst.sample
    shuffle = _inst.shuffle
    choices = _inst.choices
    normalvariate = _inst.normalvariate
    lognormvariate = _inst.lognormvariate
    expovariate = _inst.expovariate
    vonmisesvariate = _inst.vonmisesvariate
    gammavariate = _inst.gammavariate
    gauss = _inst.gauss
    betavariate = _inst.betavariate
    paretovariate = _inst.paretovariate
    weibullvariate = _inst.weibullvariate
    getstate = _inst.getstate
    setstate = _inst.setstate
    getrandbits = _inst.getrandbits
    randbytes = _inst.randbytes

    if sys.version_info >= (3, 12):
        binomialvariate = _inst.binomialvariate

if sys.version_info >= (3, 12):
    __all__ += ["binomialvariate"]
