# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Names for annotations that every version has when it is asked for the types of something."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

__all__ = ["Self"]

if TYPE_CHECKING:
    from typing_extensions import Self
elif sys.version_info >= (3, 11):
    from typing import Self
else:
    Self = TypeVar("Self")
