# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A probe: the counter in memory."""

from __future__ import annotations

import gc
import mmap
import os
import struct
from pathlib import Path

import pytest
import support
import sysgenid
import telling

#: How the page of a driver or of a broker has the counter.
FORMAT = "I"


def open_probe(source: str) -> sysgenid.Probe:
    # On v5 a probe of its own would be a watcher, outdated for ever. There a watcher has one.
    if os.environ.get("SYSGENID_TEST_DIALECT") == "v5":
        return sysgenid.Watcher(source).probe()
    return sysgenid.Probe(source)


@pytest.fixture
def probe(source: str) -> sysgenid.Probe:
    return open_probe(source)


def test_it_follows(probe: sysgenid.Probe, trigger: support.Trigger) -> None:
    for _ in range(3):
        generation = trigger()
        assert probe.generation == generation
    assert type(probe.generation) is int
    assert f"generation {generation}" in repr(probe)


def test_it_says_where_it_looks(probe: sysgenid.Probe, source: str) -> None:
    assert probe.path == source
    assert probe.kind == sysgenid.status(source).kind
    probe.verify()


def test_nothing_of_it_is_set(probe: sysgenid.Probe) -> None:
    for name in ("generation", "kind", "path", "other"):
        with pytest.raises(AttributeError):
            setattr(probe, name, 1)


def test_it_outlives_its_watcher(source: str, trigger: support.Trigger) -> None:
    with sysgenid.Watcher(source) as watcher:
        probe = watcher.probe()
        assert type(probe) is sysgenid.Probe
        trigger()
        telling.acknowledge(watcher)
    del watcher
    generation = trigger()
    assert probe.generation == generation


def test_its_buffer_is_the_counter(probe: sysgenid.Probe, trigger: support.Trigger) -> None:
    view = memoryview(probe)
    assert (view.format, view.itemsize, view.nbytes) == (FORMAT, 4, 4)
    assert (view.ndim, view.shape, view.strides) == (1, (1,), (4,))
    assert view.c_contiguous
    for _ in range(3):
        generation = trigger()
        assert view[0] == probe.generation == generation
        assert struct.unpack(FORMAT, view) == struct.unpack(FORMAT, bytes(probe)) == (generation,)


def test_its_buffer_is_read_only(probe: sysgenid.Probe) -> None:
    view = memoryview(probe)
    assert view.readonly
    with pytest.raises(TypeError):
        view[0] = 1
    with pytest.raises((TypeError, BufferError)):
        view.cast("B")[0] = 1
    with pytest.raises((TypeError, BufferError)), open("/dev/zero", "rb", buffering=0) as zero:
        zero.readinto(probe)
    assert view[0] == probe.generation


def test_its_buffer_keeps_the_mapping(source: str, trigger: support.Trigger) -> None:
    def mappings() -> int:
        return len(Path("/proc/self/maps").read_text().splitlines())

    gc.collect()
    before = mappings()
    # Some more than the interpreter's memory could change by.
    views = [memoryview(open_probe(source)) for _ in range(50)]
    gc.collect()
    assert mappings() >= before + 50
    for _ in range(3):
        generation = trigger()
        assert [view[0] for view in views] == [generation] * 50
    views.clear()
    gc.collect()
    assert mappings() < before + 25


@pytest.mark.needs("numpy")
def test_numpy_looks_at_it(probe: sysgenid.Probe, trigger: support.Trigger) -> None:
    import numpy as np

    array = np.frombuffer(memoryview(probe), dtype=np.uint32)
    generation = trigger()
    assert array[0] == generation
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


def test_it_is_what_is_in_the_page(broker: support.Broker) -> None:
    probe = sysgenid.Probe(broker.source)
    with (
        open(broker.folder / "page", "rb") as page,
        mmap.mmap(page.fileno(), 4096, prot=mmap.PROT_READ) as mapped,
        sysgenid.Orchestrator(broker.source) as orchestrator,
    ):
        orchestrator.trigger(0xFFFF_FFFE)
        counter = memoryview(mapped).cast("I")
        assert probe.generation == counter[0] == memoryview(probe)[0] == 0xFFFF_FFFE
        # It wraps.
        orchestrator.trigger()
        assert orchestrator.trigger() == probe.generation == counter[0] == 0
        counter.release()


def test_it_notices_that_its_page_was_replaced(broker: support.Broker) -> None:
    probe = sysgenid.Probe(broker.source)
    page = broker.folder / "page"
    copy = broker.folder / "copy"
    copy.write_bytes(page.read_bytes())
    copy.rename(page)
    with pytest.raises(sysgenid.BrokenError):
        probe.verify()
    page.unlink()
    with pytest.raises(sysgenid.AbsentError):
        probe.verify()
    assert probe.generation == 0


def test_it_goes_on_without_its_broker(broker: support.Broker) -> None:
    probe = sysgenid.Probe(broker.source)
    with sysgenid.Orchestrator(broker.source) as orchestrator:
        generation = orchestrator.trigger()
    broker.kill()
    assert probe.generation == generation
    broker.start()
    with sysgenid.Orchestrator(broker.source) as orchestrator:
        assert orchestrator.trigger() == probe.generation == generation + 1


@pytest.mark.v6_only
def test_the_process_has_one(trigger: support.Trigger, source: str) -> None:
    before = sysgenid.uniqueness()
    assert before == sysgenid.uniqueness()
    generation = trigger()
    assert sysgenid.generation() == generation
    assert before != sysgenid.uniqueness()
    assert sysgenid.uniqueness().generation == generation
    assert [path for _, path in sysgenid.protection().sources] == [source]
    sysgenid.verify()
    assert sysgenid.refresh() is False
