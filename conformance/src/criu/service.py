# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Services that are copied while they run: one on asyncio, and one that forks its workers.

`service.py FOLDER asyncio|prefork protected|unprotected`. Both twins do the same; the one is
protected by the package, as a program that uses it is, and the other does not import it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import random
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

PATIENCE = 300.0
WORKERS = 2


def kernel(size: int) -> bytes:
    """Bytes from the kernel, past the C library, whose generator is memory that is copied."""
    with open("/dev/urandom", "rb", buffering=0) as stream:
        return stream.read(size)


class Connection:
    """A connection to a server, which knows it by its first line."""

    def __init__(self, address: str) -> None:
        self.id = kernel(8).hex()
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(address)
        self.socket.sendall(f"{self.id}\n".encode())


class Service:
    """What a worker has: a key for its tokens, and a connection."""

    def __init__(self, address: str, protected: bool) -> None:
        self.key: Callable[[], bytes]
        self.connection: Callable[[], Connection]
        self.wait_until_handled: Callable[[], None] = lambda: None
        if not protected:
            key, connection = kernel(32), Connection(address)
            self.key = lambda: key
            self.connection = lambda: connection
            return
        import sysgenid

        sysgenid.random.protect()
        self.key = sysgenid.Guarded(lambda: sysgenid.entropy(32)).get
        self.connection = sysgenid.Guarded(lambda: Connection(address)).get
        self.key()
        self.connection()

        def wait_until_handled() -> None:
            # The service is ready when its hooks have run: OpenSSL is theirs.
            background = sysgenid.background()
            while background.generation != sysgenid.generation():
                time.sleep(0.01)

        self.wait_until_handled = wait_until_handled

    def report(self, process: str) -> list[str]:
        """Handles a request."""
        token = hmac.new(self.key(), b"ann", hashlib.sha256).hexdigest()
        return [
            f"{process} number {random.getrandbits(64)}",
            f"{process} token {token}",
            f"{process} connection {self.connection().id}",
            f"{process} openssl {ssl.RAND_bytes(16).hex()}",
        ]


def has_orders(folder: Path) -> bool:
    """Whether a request is there: by then it is a copy that sees it."""
    orders = folder / "orders"
    return orders.exists() and orders.read_text().endswith("\n")


def write(path: Path, lines: list[str]) -> None:
    """Writes a file that is whole when it is seen."""
    new = path.with_name(f"{path.name}.new")
    new.write_text("\n".join(lines))
    new.rename(path)


async def serve(folder: Path, protected: bool) -> None:
    """The service on asyncio, which is its own server as well."""
    address = str(folder / "server.sock")
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(lambda _, writer: accepted.append(writer), address)
    service = Service(address, protected)
    service.report("parent")
    service.wait_until_handled()
    while not accepted:
        await asyncio.sleep(0.005)
    (folder / "ready").touch()
    while not has_orders(folder):
        await asyncio.sleep(0.005)
    await asyncio.to_thread(service.wait_until_handled)
    write(folder / "report", service.report("parent"))
    server.close()


def prefork(folder: Path, protected: bool) -> None:
    """The service whose parent has prepared everything before it forks the workers."""
    address = str(folder / "server.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    listener.setblocking(False)
    accepted: list[object] = []
    service = Service(address, protected)
    service.report("parent")
    workers = {}
    for number in range(WORKERS):
        worker = os.fork()
        if worker == 0:
            try:
                work(folder, service, f"worker{number}")
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        workers[number] = worker
    service.wait_until_handled()
    # A connection of each worker's own, if it has not kept its parent's.
    connections = 1 + WORKERS if protected else 1
    while len(accepted) < connections or not all(
        (folder / f"ready.worker{number}").exists() for number in workers
    ):
        with contextlib.suppress(BlockingIOError):
            accepted.append(listener.accept())
        time.sleep(0.005)
    (folder / "ready").touch()
    while not has_orders(folder):
        time.sleep(0.005)
    service.wait_until_handled()
    lines = service.report("parent")
    for number, worker in workers.items():
        _, status = os.waitpid(worker, 0)
        assert status == 0, status
        lines += (folder / f"report.worker{number}").read_text().splitlines()
    write(folder / "report", lines)


def work(folder: Path, service: Service, name: str) -> None:
    """A worker. It ends in here."""
    service.report(name)
    service.wait_until_handled()
    (folder / f"ready.{name}").touch()
    while not has_orders(folder):
        time.sleep(0.005)
    service.wait_until_handled()
    write(folder / f"report.{name}", service.report(name))
    os._exit(0)


def main() -> None:
    """Serves until a request has been handled."""
    folder, kind, protected = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "protected"
    os.setsid()  # CRIU takes whole sessions.
    if kind == "asyncio":
        asyncio.run(asyncio.wait_for(serve(folder, protected), PATIENCE))
    else:
        prefork(folder, protected)


if __name__ == "__main__":
    main()
