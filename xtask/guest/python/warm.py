# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A warm interpreter: started, its modules imported, its generators seeded and drawn from.

This is what a sandbox keeps in a snapshot, so that a clone need not do all that. It is told
``report`` on its standard input, and says what a clone is to be asked for.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import sys
import uuid
from typing import TypedDict

import sysgenid
import sysgenid.aio
import sysgenid.random


class Counts(TypedDict):
    """What has happened since the interpreter was started."""

    wakes: int
    hooks: int


async def count_wakes(counts: Counts) -> None:
    """Handles every change, as a service in an event loop does."""
    async for change in sysgenid.aio.watch():
        counts["wakes"] += 1
        change.acknowledge()


async def requests() -> asyncio.StreamReader:
    """Opens the standard input for a loop."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main(name: str) -> None:
    """Gets warm, says so, and answers."""
    if name == "protected":
        # On v5 a process sees no restore by itself. The watcher in its background does.
        sysgenid.random.protect(require_source=sysgenid.status().dialect != "v5")
    counts: Counts = {"wakes": 0, "hooks": 0}
    secret: sysgenid.Guarded[str] = sysgenid.Guarded(lambda: secrets.token_hex(8))

    @sysgenid.after_restore
    def count_hook() -> None:
        counts["hooks"] += 1

    def say(word: str) -> None:
        values = {
            "interpreter": name,
            "generation": sysgenid.generation(),
            "random": random.random(),
            "bits": f"{random.getrandbits(64):016x}",
            "uuid": uuid.uuid4(),
            "guarded": secret.get(),
            **counts,
        }
        print(word, *(f"{key}={value}" for key, value in values.items()), flush=True)

    with sysgenid.background():
        watching = asyncio.create_task(count_wakes(counts))
        reader = await requests()
        # Until the watcher sleeps. Were it slower, it would still notice: the wait is no edge.
        await asyncio.sleep(0.2)
        say("ready")
        while request := await reader.readline():
            # A watcher that failed is no silent one.
            if watching.done():
                watching.result()
            say(request.decode().strip())
        watching.cancel()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
