# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Refuses subinterpreters, before anything native is loaded.

The native part is the process's: its hooks, its background thread and its types. Interpreters that
share one lock would share these objects as well, which breaks them. CPython by itself refuses only
interpreters that have a lock of their own.
"""

from __future__ import annotations

import _thread

_REFUSED = (
    "sysgenid cannot be imported in a subinterpreter: import it in the main interpreter, or in "
    "another process"
)


def _is_main() -> bool:
    # From 3.12 on.
    is_main = getattr(_thread, "_is_main_interpreter", None)
    if is_main is not None:
        return bool(is_main())
    try:
        interpreters = __import__("_xxsubinterpreters")
    except ImportError:
        # Without it no program of Python's makes any; the native part looks, too.
        return True
    return bool(interpreters.get_current() == interpreters.get_main())


if not _is_main():
    raise ImportError(_REFUSED, name="sysgenid")
