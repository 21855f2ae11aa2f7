# SPDX-License-Identifier: Apache-2.0 OR MIT
"""`python -m sysgenid`: the source, the generation and the number of watchers; or `serve`.

The words, the JSON and the exit codes are those of the commands `sysgenid status` and `serve`. What
a broker follows, and when and why it changed last, only the command says.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from typing import NoReturn

import sysgenid

_MORE = """\
A source is found in $SYSGENID_SOURCE, else it is the first that exists of
  /dev/sysgenid, /run/sysgenid, $XDG_RUNTIME_DIR/sysgenid
else a counter of the hypervisor's, /dev/vmclockN or /dev/vmgenid.

Exit codes:
  0  done
  1  failed for another reason
  2  wrong usage
  3  no source: nothing there, no kernel driver and no userspace driver
  4  permission denied
  6  the source is not one, is broken, or cannot do this
  7  the userspace driver is not running, has ended, or does not answer"""

_KINDS = {
    "device": "kernel driver",
    "broker": "userspace driver",
    "page-file": "page file",
    "vmgenid": "the hypervisor's counter",
    "vmclock": "the hypervisor's clock",
}

_BACKENDS = {
    "vmfork": "the kernel announces restores",
    "acpi": "the hypervisor announces restores",
    "trigger": "nobody announces restores: whoever restores runs `sysgenid trigger`",
}


def main() -> int:
    """Prints the status. Returns the exit code."""
    arguments = _parser().parse_args()
    if arguments.command == "serve":
        from sysgenid._serve import serve

        return serve(arguments.dir, until_eof=arguments.until_eof)
    silent: sysgenid.Error | None = None
    try:
        # Other calls have deadlines of their own; this one is for a userspace driver that hangs.
        try:
            status = sysgenid.status(arguments.source, timeout=arguments.timeout)
        except (sysgenid.LostError, sysgenid.TimedOutError) as error:
            path = arguments.source or error.filename
            silent, status = error, _as_left(path, error)
        beside = _beside(status) if arguments.source is None else None
    except sysgenid.Error as error:
        print(f"sysgenid: {_message(error)}", file=sys.stderr)
        return _code(error)
    show = _json if arguments.json else _text
    try:
        print(show(status, beside, silent is None), flush=True)
    except BrokenPipeError:
        # Nobody reads any more.
        _let_go_of_stdout()
    except OSError as error:
        print(f"sysgenid: standard output: {error}", file=sys.stderr)
        _let_go_of_stdout()
        return 1
    if silent is not None:
        print(f"sysgenid: {_message(silent)}", file=sys.stderr)
        return _code(silent)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sysgenid",
        description="Show the source, the generation and the number of watchers. Or serve.",
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--source",
        metavar="PATH",
        help="a device, a userspace driver's directory, or a page file "
        "(default: $SYSGENID_SOURCE, or found)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, one object per line")
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=5.0,
        help="for a userspace driver that does not answer (default: 5)",
    )
    parser.add_argument("--version", action="version", version=f"sysgenid {sysgenid.__version__}")
    serve = parser.add_subparsers(dest="command", metavar="serve", title="command").add_parser(
        "serve",
        help="run the userspace driver, which other programs find by $SYSGENID_SOURCE",
        description="Run the userspace driver until Ctrl-C or SIGTERM.",
    )
    serve.add_argument(
        "--dir",
        metavar="DIR",
        help="the directory that it serves; what it has to be, the book says (default: "
        "/run/sysgenid for root, else $XDG_RUNTIME_DIR/sysgenid)",
    )
    serve.add_argument(
        "--until-eof", action="store_true", help="end when the standard input does, too"
    )
    return parser


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _beside(status: sysgenid.Status) -> tuple[str, str] | None:
    """The other source that a process looks at."""
    others = [(kind, path) for kind, path in sysgenid.protection().sources if path != status.path]
    return others[0] if others else None


def _as_left(path: str | None, error: sysgenid.Error) -> sysgenid.Status:
    """What a userspace driver has left that has ended or hangs: its page can still be read."""
    try:
        probe = sysgenid.Probe(path)
    except sysgenid.Error:
        raise error from None
    return sysgenid.Status(probe.kind, probe.path, probe.generation)


def _text(status: sysgenid.Status, beside: tuple[str, str] | None, is_running: bool) -> str:
    counts = status.watchers
    generation = f"{status.generation}"
    watchers = "not told by this source"
    if not is_running:
        generation += ", as it was left; the driver does not answer"
        watchers = "not known"
    if counts is not None:
        watchers = (
            f"{counts.total}, {counts.tracked} of them tracked, {counts.outdated} of these outdated"
        )
    lines = [
        f"source      {status.path} ({_kind(status.kind)})",
        f"generation  {generation}",
        f"watchers    {watchers}",
    ]
    if beside is not None:
        lines.append(f"beside it   {beside[1]} ({_kind(beside[0])})")
    if status.dialect is not None:
        lines.append(f"dialect     {status.dialect}")
    if status.backend is not None:
        lines.append(
            f"backend     {status.backend} ({_BACKENDS.get(status.backend, 'another way')})"
        )
    return "\n".join(lines)


def _json(status: sysgenid.Status, beside: tuple[str, str] | None, is_running: bool) -> str:
    counts = status.watchers
    shown: dict[str, object] = {"source": status.path, "kind": status.kind}
    if beside is not None:
        shown["beside"] = beside[1]
    shown |= {
        "generation": status.generation,
        "running": is_running,
        "watchers": None if counts is None else counts.total,
        "tracked": None if counts is None else counts.tracked,
        "outdated": None if counts is None else counts.outdated,
        "dialect": status.dialect,
        "backend": status.backend,
    }
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def _kind(kind: str) -> str:
    return _KINDS.get(kind, "another kind of source")


def _message(error: sysgenid.Error) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else f"{error.strerror}"


def _code(error: sysgenid.Error) -> int:
    if isinstance(error, sysgenid.AbsentError):
        return 3
    if isinstance(error, sysgenid.DeniedError):
        return 4
    if isinstance(
        error, (sysgenid.WrongKindError, sysgenid.BrokenError, sysgenid.UnsupportedError)
    ):
        return 6
    if isinstance(error, (sysgenid.LostError, sysgenid.TimedOutError)):
        return 7
    return 1


def _let_go_of_stdout() -> None:
    """What could not be printed is still buffered: the interpreter must not try it again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end_as_interrupted() -> NoReturn:
    """As a program ends that does not handle the signal: so a shell knows that it was one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    raise SystemExit(130)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        _end_as_interrupted()
