# SPDX-License-Identifier: Apache-2.0 OR MIT
"""A subinterpreter is told that the package is not for it, and does no harm to the main one."""

from __future__ import annotations

import pytest
from support import run_python
from sysgenid import _native

#: In a process of its own, because what goes wrong here goes wrong in the main interpreter later.
PROGRAM = """
import sys

try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters

def create(isolated):
    if sys.version_info >= (3, 13):
        return interpreters.create("isolated" if isolated else "legacy")
    if sys.version_info >= (3, 12):
        return interpreters.create(isolated=isolated)
    return interpreters.create()

def run(code):
    for isolated in False, True:
        interpreter = create(isolated)
        if sys.version_info >= (3, 13):
            failure = interpreters.exec(interpreter, code)
            assert failure is None, failure.errdisplay
        else:
            interpreters.run_string(interpreter, code)
        interpreters.destroy(interpreter)

"""

REFUSED = """
run('''
try:
    import sysgenid
except ImportError as error:
    assert "cannot be imported in a subinterpreter" in str(error), error
    assert error.name == "sysgenid", error.name
else:
    raise AssertionError("it is imported")
''')
import sysgenid
assert sysgenid.Guarded(lambda: 7).get() == 7
assert sysgenid.uniqueness() == sysgenid.uniqueness()
with sysgenid.Watcher() as watcher:
    assert watcher.try_changed() is None
"""

BY_ITSELF = """
run('''
import importlib.util

spec = importlib.util.spec_from_file_location("_native", PATH)
try:
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
except ImportError as error:
    assert "subinterpreter" in str(error), error
else:
    raise AssertionError("it is imported")
'''.replace("PATH", repr(PATH)))
"""


@pytest.mark.v6_only
def test_a_subinterpreter_is_refused_and_the_main_one_works() -> None:
    run_python(PROGRAM + REFUSED)


def test_the_native_part_looks_as_well() -> None:
    run_python(PROGRAM + BY_ITSELF.replace("repr(PATH)", repr(repr(_native.__file__))))
