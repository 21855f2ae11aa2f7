# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is to be forgotten after a change that the process by itself does not see.

Such is each change of a driver of the v5 dialect, where a process has no page of its own: there
only a watcher sees it, and whoever has one tells the hooks.
"""

from __future__ import annotations

import types
import weakref
from typing import TYPE_CHECKING

from ._native import generation as seen
from ._native import shows_restores

if TYPE_CHECKING:
    from collections.abc import Callable

# Each change of the list is one operation of the interpreter's.
_forgetters: list[weakref.ReferenceType[Callable[[], object]]] = []


def forget_by(forget: Callable[[], object]) -> None:
    """Has `forget` called after such a change, as long as somebody else has it too."""
    if isinstance(forget, types.MethodType):
        _forgetters.append(weakref.WeakMethod(forget, _forgetters.remove))
    else:
        _forgetters.append(weakref.ref(forget, _forgetters.remove))


def tell(generation: int) -> None:
    """To be called with what a watcher has seen."""
    # Without a source the number of the process means nothing.
    if shows_restores() and generation == seen():
        return  # whoever looks sees it, too
    for reference in list(_forgetters):
        forget = reference()
        if forget is not None:
            forget()
