"""What is to be done to a module when it is imported, sooner or later.

It imports nothing itself. What is done runs under the import lock of that module, on
the thread that imports it, before anybody sees the module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


def when_imported(name: str, do: Callable[[ModuleType], None]) -> None:
    """Call `do` with a module: now, if it is imported, or when it will be.

    `do` must be harmless when it is called again, as this may be.
    """
    module = sys.modules.get(name)
    if module is not None and not getattr(module.__spec__, "_initializing", False):
        do(module)
    elif not any(isinstance(each, _Finder) and each.name == name for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name, do))


class _Finder(MetaPathFinder):
    """Waits for one module, and is gone when that is found."""

    def __init__(self, name: str, do: Callable[[ModuleType], None]) -> None:
        self.name = name
        self._do = do

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self.name:
            return None
        sys.meta_path.remove(self)
        from importlib.util import find_spec

        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._do)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Any, do: Callable[[ModuleType], None]) -> None:
        self._loader = loader
        self._do = do

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._do(module)
