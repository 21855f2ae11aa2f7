# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A service that survives restores, forks, restarts of the driver and machines without one.

It answers each line of its input with its token and its session, both of which no clone may share.
The line "fork" has a forked child go on in its place.

Terminal 1: sysgenid serve --dir /tmp/sysgenid
Terminal 2: SYSGENID_SOURCE=/tmp/sysgenid python survive_restores.py; each line typed is a request,
and the end of the input (Ctrl-D) ends the service
Terminal 3: SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger
"""

from __future__ import annotations

import os
import sys

import sysgenid


def connect() -> str:
    """Stands for a connection, which is opened anew."""
    return sysgenid.entropy(8).hex()


token = sysgenid.Guarded(lambda: sysgenid.entropy(8).hex())
session = sysgenid.Guarded(connect)


@sysgenid.after_restore
def prepare() -> None:
    """Nobody waits for the connection then. What must not be old is checked at each use."""
    session.get()


def answer() -> str:
    """Made of what belongs to one moment: made again if something changes meanwhile."""
    return token.use(lambda token: session.use(lambda session: f"token {token} session {session}"))


def main() -> None:
    """Serves, and has changes handled and acknowledged meanwhile."""
    os.register_at_fork(after_in_child=sysgenid.background)
    sysgenid.background()
    for request in iter(sys.stdin.readline, ""):
        if request == "fork\n" and (child := os.fork()) != 0:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        print(answer(), flush=True)


if __name__ == "__main__":
    main()
