# SPDX-License-Identifier: Apache-2.0 OR MIT
"""Calls that are made once a module is there. This package imports none that it only covers."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType


# Not by the classes of importlib.abc, which import as much as all the rest.


class WhenImported:
    """Calls `then` once `module` is there, which is not imported yet."""

    def __init__(self, module: str, then: Callable[[], None]) -> None:
        self._module = module
        self._then = then

    def install(self) -> None:
        if not self.is_installed():
            sys.meta_path.insert(0, self)

    def is_installed(self) -> bool:
        return self in sys.meta_path

    def remove(self) -> None:
        if self.is_installed():
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = _ThenLoader(spec.loader, self)  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
                return spec
        return None

    def loaded(self) -> None:
        self.remove()
        try:
            self._then()
        except Exception as error:
            # The import is not to blame.
            warnings.warn(f"{self._module} is not protected: {error}", RuntimeWarning, stacklevel=2)


class _ThenLoader:
    def __init__(self, loader: Loader, whom: WhenImported) -> None:
        self._loader = loader
        self._whom = whom

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # Nobody is to find this one in the module.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._whom.loaded()
