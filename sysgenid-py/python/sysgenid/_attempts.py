# SPDX-License-Identifier: Apache-2.0 OR MIT
"""How long one attempt to reach a broker again may take, where nothing can end it early.

The pauses between looks for a broker are those of `reconnect` itself. This is about the calls of
it, each of which lasts until its own timeout.
"""

from __future__ import annotations

from .errors import TimedOutError

FIRST = 0.5
"""Seconds of the first attempt: whoever is to stop does not wait longer than that."""
LONGEST = 5.0
"""As long as a broker may take to answer when a watcher is opened."""


def after(seconds: float, error: Exception) -> float:
    """Returns the time for the next attempt, after one of that many seconds has failed.

    A broker that is there and does not answer may be slow. To give up early loses the place among
    the clients that wait for it, so it gets more time.
    """
    return min(2 * seconds, LONGEST) if isinstance(error, TimedOutError) else FIRST
