# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What can be told of a function without calling it."""

from __future__ import annotations

from ._native import is_deferred as is_async

__all__ = ["is_async"]
