# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The agent of a sandbox: a microVM with a warm interpreter, of which clones are made.

Its host speaks to it in lines. `prepare` has it quiesce before a snapshot. After a restore, which
the driver announces, it rebuilds, waits for all others in the sandbox, and says whether the clone
may be used. It answers in JSON, an object for each line:

    {"event": "started", "generation": 0}
    {"event": "prepared"}
    {"event": "ready", "generation": 1, "watchers": 1, "seconds": 0.012}
    {"event": "late", "stragglers": [{"pid": 7, "uid": 0, "command": "worker", "acknowledged": 0}]}

It ends with its input, or with code 5 if somebody is late: then the host drops this clone.

Terminal 1: sysgenid serve --dir /tmp/sysgenid
Terminal 2: SYSGENID_SOURCE=/tmp/sysgenid python run_sandbox_agent.py 5.0, then `prepare`
Terminal 3: SYSGENID_SOURCE=/tmp/sysgenid sysgenid trigger
"""

from __future__ import annotations

import json
import select
import sys
import time
import uuid

import sysgenid

sandbox = uuid.uuid4()


def tell(event: str, **details: object) -> None:
    """Says it to the host."""
    print(json.dumps({"event": event, **details}), flush=True)


@sysgenid.before_snapshot
def forget_sandbox() -> None:
    """What must not be copied must not be in memory. Connections are closed here as well."""
    global sandbox
    sandbox = uuid.UUID(int=0)


@sysgenid.after_restore
def name_sandbox() -> None:
    """From the kernel, so that each clone has another."""
    global sandbox
    sandbox = uuid.uuid4()


def prepare() -> None:
    """Before a snapshot. A hook that fails is no reason to keep quiet: the host must not go on."""
    try:
        sysgenid.run_before_snapshot()
    except sysgenid.HookError as error:
        tell("unprepared", reason=str(error))
    else:
        tell("prepared")


def resume(orchestrator: sysgenid.Orchestrator, deadline: float) -> None:
    """After a restore."""
    began = time.monotonic()
    try:
        settled = orchestrator.settle(deadline)
    except sysgenid.TimedOutError:
        late = orchestrator.stragglers()
        told = ("pid", "uid", "command", "acknowledged")
        tell("late", stragglers=[{key: getattr(who, key) for key in told} for who in late])
        sys.exit(5)
    except sysgenid.HookError as error:
        tell("failed", reason=str(error))
        sys.exit(1)
    seconds = round(time.monotonic() - began, 6)
    tell("ready", generation=settled.generation, watchers=settled.watchers, seconds=seconds)


def main(deadline: float) -> None:
    """Does what the host says, and what a restore asks for."""
    with sysgenid.Orchestrator() as orchestrator, open(sys.stdin.fileno(), "rb", 0) as host:
        tell("started", generation=orchestrator.generation)
        while True:
            # Without a deadline: a sandbox may never be restored.
            descriptors = [orchestrator.fileno(), host.fileno()]
            readable, _, _ = select.select(descriptors, [], [])
            if orchestrator.fileno() in readable:
                resume(orchestrator, deadline)
            if host.fileno() in readable:
                line = host.readline()
                if not line:
                    return
                if line.strip() == b"prepare":
                    prepare()
                else:
                    tell("unknown", command=line.decode(errors="replace").strip())


if __name__ == "__main__":
    try:
        main(float(sys.argv[1]) if len(sys.argv) > 1 else 5.0)
    except sysgenid.Error as error:
        sys.exit(f"{error}")
