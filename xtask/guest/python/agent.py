# SPDX-License-Identifier: Apache-2.0 OR MIT
"""The agent of a sandbox: it keeps two warm interpreters, and settles each change.

It and the host exchange lines, which xtask's ``clones.rs`` describes. What the interpreters say,
they say to the host themselves.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import sysgenid

INTERPRETERS = ("unprotected", "protected")

# How long everybody may take to acknowledge. The guest's processor is emulated.
PATIENCE = 60.0


def start(name: str) -> subprocess.Popen[str]:
    """Starts an interpreter; if it ends in any other way than by our wish, so do we."""
    child = subprocess.Popen(
        [sys.executable, os.path.join(os.path.dirname(__file__), "warm.py"), name],
        stdin=subprocess.PIPE,
        text=True,
    )

    def end_with_it() -> None:
        if child.wait() != 0:
            os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
    return child


def settle(orchestrator: sysgenid.Orchestrator) -> None:
    """Waits for each change, and until everybody has acknowledged it."""
    while True:
        orchestrator.wait()
        settled = orchestrator.settle(PATIENCE)
        print(f"settled generation={settled.generation}", flush=True)


def end(failure: threading.ExceptHookArgs) -> None:
    """Ends, because a thread has: who waits for it would wait for ever."""
    threading.__excepthook__(failure)
    os._exit(1)


def status() -> None:
    """Says what ``python -m sysgenid`` says."""
    command = [sys.executable, "-m", "sysgenid", "--json"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(ended.stdout)
    keys = ("generation", "dialect", "backend", "tracked", "outdated")
    print("status", *(f"{key}={said[key]}" for key in keys), flush=True)


def main() -> None:
    """Follows the host's requests until it asks for the end."""
    threading.excepthook = end
    orchestrator = sysgenid.Orchestrator()
    threading.Thread(target=settle, args=[orchestrator], daemon=True).start()
    interpreters = {name: start(name) for name in INTERPRETERS}
    for line in sys.stdin:
        word, _, name = line.strip().partition(" ")
        if word == "finish":
            break
        if word == "status":
            status()
        else:
            print(word, file=interpreters[name].stdin, flush=True)
    for interpreter in interpreters.values():
        interpreter.communicate()


if __name__ == "__main__":
    main()
