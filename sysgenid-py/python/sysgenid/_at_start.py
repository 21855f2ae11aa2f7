# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What `SYSGENID_PROTECT=1` has each interpreter do before anything of the program runs.

`sysgenid.pth` imports this, which is installed beside the package. An interpreter starts whatever
happens here: what went wrong is written to standard error.
"""

from __future__ import annotations

import sys


def _protect() -> None:
    # What fails in an import is to be told like the rest.
    import warnings

    from sysgenid.errors import UnprotectedWarning
    from sysgenid.random import protect

    with warnings.catch_warnings():
        # It may be an error here, and is told below.
        warnings.simplefilter("ignore", UnprotectedWarning)
        coverage = protect(require_source=False)
    if coverage.problem is not None:
        warnings.warn(
            f"SYSGENID_PROTECT: only forks are sure to be seen: {coverage.problem}",
            UnprotectedWarning,
            stacklevel=1,
        )


def _start() -> None:
    try:
        _protect()
    except Exception as error:
        from contextlib import suppress

        with suppress(OSError):  # There is nobody to tell.
            print(f"sysgenid: SYSGENID_PROTECT: {error!r}", file=sys.stderr)


_start()
