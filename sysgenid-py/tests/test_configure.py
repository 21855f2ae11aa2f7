# SPDX-License-Identifier: Apache-2.0 OR MIT
"""One source for the whole package."""

from __future__ import annotations

import pytest
import sysgenid
from support import Broker, run_python


def test_all_of_the_package_takes_the_one_that_is_configured(broker: Broker) -> None:
    run_python(f"""
import os, pathlib, sysgenid
path = {broker.source!r}
os.environ.pop("SYSGENID_SOURCE", None)
sysgenid.configure(source=pathlib.Path(path))
seen = []
sysgenid.after_restore(lambda change: seen.append(change.source))
guard = sysgenid.Guarded(lambda: sysgenid.entropy(8))
before = guard.get()
with (
    sysgenid.Watcher() as watcher,
    sysgenid.Orchestrator() as orchestrator,
    sysgenid.background() as background,
):
    assert watcher.path == orchestrator.path == sysgenid.status().path == background.path == path
    orchestrator.trigger()
    assert guard.get() != before
    assert watcher.wait(20).acknowledge()
    orchestrator.acknowledge(orchestrator.generation)
    orchestrator.wait_for_watchers(20)
    assert seen == [path]
sysgenid.configure(source=path)  # the same one
""")


@pytest.mark.parametrize(
    "look",
    [
        "sysgenid.generation()",
        "sysgenid.Watcher()",
        "sysgenid.Orchestrator()",
        "sysgenid.Changes()",
        "sysgenid.background()",
        "sysgenid.Guarded(int).get()",
        "sysgenid.after_restore(int)",
    ],
)
def test_it_is_an_error_when_it_is_too_late(look: str) -> None:
    run_python(f"""
import sysgenid
looked = {look}
try:
    sysgenid.configure(source="/run/another")
except RuntimeError as error:
    assert "before the first use" in str(error)
else:
    raise AssertionError("one half of the program sees another source")
""")


@pytest.mark.parametrize("wrong", [3, b"/run/sysgenid", None])
def test_a_source_is_a_path(wrong: object) -> None:
    with pytest.raises(TypeError):
        sysgenid.configure(source=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="path"):
        sysgenid.configure(source="")
