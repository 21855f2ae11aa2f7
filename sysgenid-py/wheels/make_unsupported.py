# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Makes the wheel for all other systems of a native one: `make_unsupported.py NATIVE FOLDER`.

It has the same version and the same modules in Python. Only the native part is another: it refuses.
pip takes it where no native wheel fits, so that a program which needs the package on Linux can be
installed and imported elsewhere.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import sys
import zipfile
from pathlib import Path

_NATIVE = Path(__file__).with_name("unsupported.py")


def main(native: Path, folder: Path) -> Path:
    """Writes the wheel, and returns where."""
    name, version, *_ = native.name.split("-")
    info = f"{name}-{version}.dist-info"
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(native) as source:
        # What is for a directory of such wheels is at the top of this one.
        beside = f"{name}-{version}.data/purelib/"
        contents = {
            path.removeprefix(beside): source.read(path)
            for path in source.namelist()
            if not is_left(path)
        }
    contents["sysgenid/_native.py"] = native_part(version)
    contents[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: sysgenid\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = io.StringIO()
    rows = csv.writer(record, lineterminator="\n")
    for path, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
        rows.writerow([path, f"sha256={digest.decode()}", len(content)])
    rows.writerow([f"{info}/RECORD", "", ""])
    contents[f"{info}/RECORD"] = record.getvalue().encode()
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as target:
        for path, content in contents.items():
            # With the time of none, so that the same wheel has the same bytes.
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, content)
    return wheel


def is_left(path: str) -> bool:
    """Whether it is the native part, is about it, or is made anew."""
    endings = (".so", "/RECORD", "/WHEEL", "/LICENSE-THIRD-PARTY")
    return path.endswith(endings) or ".dist-info/sboms/" in path


def native_part(version: str) -> bytes:
    """What stands in for it."""
    return _NATIVE.read_text().replace("@VERSION@", version).encode()


if __name__ == "__main__":
    print(main(Path(sys.argv[1]), Path(sys.argv[2])))
