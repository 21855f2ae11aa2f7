# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The warning that generators with a seed draw the same numbers in every clone."""

from __future__ import annotations

import warnings

from .errors import UnprotectedWarning


def warn() -> None:
    """To be called once, by what has found out that the process has no source."""
    warnings.warn(
        "no source shows restores, so clones of this process draw the same numbers from "
        "sysgenid.random; sysgenid.verify() says why, sysgenid.random.coverage() what is covered",
        UnprotectedWarning,
        stacklevel=2,
    )
