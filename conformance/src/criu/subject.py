# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The process that is copied: the twin of `subject.rs`, of a Python program."""

from __future__ import annotations

import mmap
import os
import random
import ssl
import sys
import time
from pathlib import Path

import sysgenid
import sysgenid.random

PATIENCE = 300.0
WIPE_ON_FORK = 18


def kernel() -> int:
    """A number from the kernel, past the C library, whose generator is memory that is copied."""
    with open("/dev/urandom", "rb", buffering=0) as stream:
        return int.from_bytes(stream.read(8), "little")


sysgenid.random.protect()
guarded = sysgenid.Guarded(kernel)
copied = kernel()

# As the package's own: not 0 here, and 0 in a child if the kernel does as it is told.
page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
page.madvise(WIPE_ON_FORK)
page[0] = 1


@sysgenid.cached
def cached() -> int:
    """A secret that a cache keeps."""
    return kernel()


def look(process: str) -> list[str]:
    """What this process has."""
    return [
        f"{process} copied {copied}",
        f"{process} guarded {guarded.get()}",
        f"{process} used {guarded.use(lambda number: number ^ 1)}",
        f"{process} cached {cached()}",
        f"{process} drawn {sysgenid.random.getrandbits(64)}",
        f"{process} hidden {random.getrandbits(64)}",
        f"{process} openssl {int.from_bytes(ssl.RAND_bytes(8), 'little')}",
        f"{process} page {'copied' if page[0] else 'emptied'}",
    ]


def is_refused(watcher: sysgenid.Watcher) -> bool:
    """Whether a child can do nothing with its parent's watcher."""
    for call in (
        watcher.try_changed,
        lambda: watcher.wait(0),
        lambda: watcher.set_tracking(False),
    ):
        try:
            call()
        except sysgenid.ForkedError:
            continue
        return False
    return True


def report(folder: Path) -> list[str]:
    """What this process and its child have."""
    lines = look("parent")
    driver = str(folder / "driver")
    watcher = sysgenid.Watcher(driver)
    sysgenid.trigger(driver)
    child = os.fork()
    if child == 0:
        try:
            own = look("forked")
            refused = is_refused(watcher)
            own.append(f"forked watcher {'refused' if refused else 'taken'}")
            (folder / "forked").write_text("\n".join(own))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    lines += (folder / "forked").read_text().splitlines()
    outdated = watcher.try_changed() is not None
    lines.append(f"parent watcher {'outdated' if outdated else 'acknowledged'}")
    return lines


def main() -> None:
    """Gets ready, waits to be told what to do, and does it: by then it is a copy."""
    folder = Path(sys.argv[1])
    os.setsid()  # CRIU takes whole sessions.
    look("parent")
    before = sysgenid.uniqueness()
    (folder / "ready").touch()
    deadline = time.monotonic() + PATIENCE
    orders = folder / "orders"
    while not orders.exists() or not orders.read_text().endswith("\n"):
        assert time.monotonic() < deadline, "no orders"
        time.sleep(0.005)
    if orders.read_text() == "assume\n":
        sysgenid.assume_restored()
    if not before.is_current():
        # What the background thread does, which no copy would have.
        sysgenid.run_after_restore()
    (folder / "report.new").write_text("\n".join(report(folder)))
    (folder / "report.new").rename(folder / "report")


if __name__ == "__main__":
    main()
