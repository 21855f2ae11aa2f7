# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What this package does in a forked child, in one order, and before what the program registers.

`os.register_at_fork` calls in a child what was registered first. So there is one registration, made
when the package is imported, and the parts of the package add to it.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Called in each child, in this order. Other threads are not there any more.
in_child: list[Callable[[], object]] = []


def _run_in_child() -> None:
    for function in tuple(in_child):
        try:
            function()
        except Exception as error:
            # As for a handler of the program's, which the interpreter does not end for, either.
            sys.excepthook(type(error), error, error.__traceback__)


# Systems without forks import the package as well.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_run_in_child)
