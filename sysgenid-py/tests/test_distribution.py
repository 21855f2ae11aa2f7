# SPDX-License-Identifier: Apache-2.0 OR MIT
"""What is installed beside the modules."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import sysgenid

DISTRIBUTION = importlib.metadata.distribution("sysgenid")
FILES = {str(path): path for path in DISTRIBUTION.files or ()}


def test_the_licences_are_those_of_the_repository() -> None:
    for name in "LICENSE-APACHE", "LICENSE-MIT", "LICENSE-THIRD-PARTY":
        (installed,) = (path for path in FILES if path.endswith(f".dist-info/licenses/{name}"))
        wanted = Path(__file__).parents[1] / name
        assert FILES[installed].read_text() == wanted.read_text()
    assert DISTRIBUTION.metadata["License-Expression"] == "Apache-2.0 OR MIT"


def test_every_crate_that_is_linked_has_its_licence() -> None:
    text = (Path(__file__).parents[1] / "LICENSE-THIRD-PARTY").read_text()
    for crate in "pyo3", "libc", "rustix", "chacha20", "memmap2":
        assert f"\n---- {crate}\n" in text


def test_it_needs_nothing() -> None:
    assert DISTRIBUTION.requires is None
    assert DISTRIBUTION.version == sysgenid.__version__


def test_pytest_finds_the_fixtures() -> None:
    (plugin,) = (it for it in DISTRIBUTION.entry_points if it.group == "pytest11")
    assert plugin.load().__name__ == "sysgenid.pytest_plugin"


def test_the_native_part_stays_small() -> None:
    (native,) = (path for path in FILES if path.endswith(".so"))
    assert Path(str(FILES[native].locate())).stat().st_size < 3 * 2**20
