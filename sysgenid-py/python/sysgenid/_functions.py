# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What can be told of a function without calling it."""

from __future__ import annotations

# Of the code of coroutines and asynchronous generators. `inspect` knows, but is slow to import.
_ASYNC = 0x80 | 0x200


def is_async(function: object) -> bool:
    """Whether a call of it does nothing but make something to be awaited. False if in doubt."""
    code = getattr(function, "__code__", None)
    return code is not None and bool(code.co_flags & _ASYNC)
