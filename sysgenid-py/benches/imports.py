# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What an import costs, as the time of a process that does nothing else."""

from __future__ import annotations

import os
import sys
import time

from bounds import Bounds, Side


def process(program: str) -> Side:
    """The time of an interpreter that runs this, in milliseconds."""

    def run() -> float:
        arguments = [sys.executable, "-c", program]
        begun = time.monotonic_ns()
        child = os.posix_spawn(sys.executable, arguments, os.environ)
        _, status = os.waitpid(child, 0)
        passed = time.monotonic_ns() - begun
        if status != 0:
            raise RuntimeError(f"`{program}` ended with status {status}")
        return passed / 1e6

    # What is compiled is kept, as it is wherever something is installed.
    run()
    return run


def main() -> int:
    bounds = Bounds()
    nothing = process("pass")
    bounds.difference(
        "`import sysgenid` in a new process takes longer than `pass`",
        20,
        process("import sysgenid"),
        nothing,
        "ms",
    )
    bounds.difference(
        "`import sysgenid.aio` takes longer than `import asyncio`",
        None,
        process("import sysgenid.aio"),
        process("import asyncio"),
        "ms",
    )
    return bounds.verdict()


if __name__ == "__main__":
    sys.exit(main())
