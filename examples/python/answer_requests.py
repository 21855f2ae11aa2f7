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
replaced = asyncio.Semaphore(0)


async def answer(requests: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
    """One connection."""
    with contextlib.suppress(asyncio.CancelledError):  # the service ends
        while await requests.readline():
            answers.write(f"{token}\n".encode())
            await answers.drain()
    answers.close()


async def replace_token(change: sysgenid.Change) -> None:
    """Acknowledged when it has returned, and tried again if it raises."""
    global token
    token = sysgenid.entropy(8).hex()
    print(f"generation {change.generation}: token replaced", flush=True)
    replaced.release()


async def main() -> None:
    """Serves, and has changes handled meanwhile, also when the broker is started again."""
    sysgenid.verify()  # without a source it would wait for one without a word
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "service.sock")
        server = await asyncio.start_unix_server(answer, path)
        async with server, aio.handling(replace_token):
            print(f"serving {path} at generation {sysgenid.generation()}", flush=True)
            for _ in range(CHANGES):
                await asyncio.wait_for(replaced.acquire(), PATIENCE)


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except sysgenid.Error as error:
        sys.exit(f"{error}")
