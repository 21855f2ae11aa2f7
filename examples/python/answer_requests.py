# SPDX-License-Identifier: Apache-2.0 OR MIT
"""An asyncio service answers requests, while a task replaces its token after a restore.

What must not be answered with the old token even once belongs in a guard: guard_cached_secret.py.

Terminal 1: sysgenid serve --dir /tmp/sysgenid
Terminal 2: SYSGENID_SOURCE=/tmp/sysgenid python answer_requests.py, which prints its socket;
`nc -U` of that: each line typed is a request
Terminal 3: SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger, three times
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from pathlib import Path

import sysgenid
from sysgenid import aio

CHANGES, PATIENCE = 3, 60.0  # an example ends
token = sysgenid.entropy(8).hex()


async def answer(requests: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
    """One connection."""
    with contextlib.suppress(asyncio.CancelledError):  # the service ends
        while await requests.readline():
            answers.write(f"{token}\n".encode())
            await answers.drain()
    answers.close()


async def replace_token(generation: int) -> None:
    """Acknowledged when it has returned, and not if it raises."""
    global token
    token = sysgenid.entropy(8).hex()
    print(f"generation {generation}: token replaced", flush=True)


async def main() -> None:
    """Serves, and follows the generation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "service.sock")
        server = await asyncio.start_unix_server(answer, path)
        async with server, aio.Watcher() as watcher:
            print(f"serving {path} at generation {watcher.generation}", flush=True)
            changes = 0
            while changes < CHANGES:
                try:
                    await asyncio.wait_for(watcher.handle(replace_token), PATIENCE)
                    changes += 1
                except sysgenid.LostError:
                    await watcher.reconnect(PATIENCE)  # until the broker is back; misses nothing


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except sysgenid.Error as error:
        sys.exit(f"{error}")
