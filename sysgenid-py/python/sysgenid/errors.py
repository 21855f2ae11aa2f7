# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Why a call failed.

Each error is an `Error`. What the system or a broker refused is an `OSError` as well: `errno` is
the kernel's number, or the one that comes nearest; `strerror` says what failed and what to do about
it; `filename` is the source that it is about. The others say it in their message.
"""

from __future__ import annotations


class Error(Exception):
    """What every error of this package is."""

    __module__ = "sysgenid"


class CallError(Error, OSError):
    """A system call failed, as for want of memory or of descriptors."""

    __module__ = "sysgenid"


class AbsentError(Error, FileNotFoundError):
    """Nothing is there: no device, no broker, no file (`ENOENT`)."""

    __module__ = "sysgenid"


class DeniedError(Error, PermissionError):
    """The caller may not do this (`EACCES`, `EPERM`)."""

    __module__ = "sysgenid"


class WrongKindError(Error, OSError):
    """Something else is there: another device, a FIFO, a directory without a page (`ENODEV`)."""

    __module__ = "sysgenid"


class BrokenError(Error, OSError):
    """What is there does not work: an empty file, a page that was replaced (`EIO`)."""

    __module__ = "sysgenid"


class UnsupportedError(Error, OSError):
    """The source cannot do this, though it works (`EOPNOTSUPP`).

    Or a broker speaks another version of its protocol.
    """

    __module__ = "sysgenid"


class StaleError(Error):
    """The acknowledged generation is not the current one; `current` is.

    Nothing is acknowledged, and the watcher stays outdated.
    """

    __module__ = "sysgenid"

    current: int = 0


class TimedOutError(Error, TimeoutError):
    """The deadline passed (`ETIME`)."""

    __module__ = "sysgenid"


class OutdatedError(Error):
    """The caller's own watcher is outdated: rebuild, acknowledge, then wait again."""

    __module__ = "sysgenid"


class LostError(Error, ConnectionError):
    """The broker is gone or does not read: `reconnect` (`ECONNRESET`).

    Or it has no room for this client at the moment, and says which limit was reached.
    """

    __module__ = "sysgenid"


class MissingError(Error):
    """Fewer tracked watchers have acknowledged than the orchestrator requires."""

    __module__ = "sysgenid"


class ForkedError(Error):
    """The watcher is the parent's, in a forked child: `reopen` it, or open another."""

    __module__ = "sysgenid"


class UnsettledError(Error):
    """The generation kept changing, more often than the call tries again."""

    __module__ = "sysgenid"


class ReentrantError(Error):
    """A guard was used by its own build, or by builds that wait for each other."""

    __module__ = "sysgenid"


class UnprotectedWarning(RuntimeWarning):
    """No source shows restores, so seeded generators draw the same numbers in every clone.

    It is given once in a process, when a generator of `sysgenid.random` is seeded or draws first,
    or by `protect(require_source=False)`. The kernel's numbers (`sysgenid.entropy`) need no source.
    """

    __module__ = "sysgenid"


class EntropyError(Error, OSError):
    """The kernel gave no random bytes for a new seed (`ENODATA`)."""

    __module__ = "sysgenid"
