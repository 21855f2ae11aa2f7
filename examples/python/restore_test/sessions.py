# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A program whose processes have a token each, and no clone another's."""

from __future__ import annotations

import sysgenid


@sysgenid.cached
def token() -> str:
    """The token of this process, in this generation."""
    return sysgenid.entropy(16).hex()
