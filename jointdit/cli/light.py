"""A process with less to import, for commands that are over in seconds.

diffusers and transformers import whatever optional package they find installed, and torch's compiler to mark functions
for it. Of the imports of a default clip that is more than half.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

COMPILER = "torch._dynamo"
WRAPPED = f"{COMPILER}._trace_wrapped_higher_order_op"
OBJECTS = 100_000  # new ones between two collections; imports make a million, and hardly any garbage


def import_less(unused: Iterable[str]) -> None:
    """For the rest of this process: packages in `unused` that are not imported yet pass for not installed, torch's
    compiler is not imported before something compiles, and garbage is looked for less often.

    Only for a process that belongs to one command: what is imported afterwards stays as it was imported.
    """
    gc.set_threshold(OBJECTS)
    for name in unused:
        sys.modules.setdefault(name, None)  # pyright: ignore[reportArgumentType]: as the import system has it
    if COMPILER not in sys.modules:
        sys.meta_path.insert(0, _Later())


class _Later(MetaPathFinder, Loader):
    """Finds stand-ins of torch's compiler, until it is asked for more than they have."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in (COMPILER, WRAPPED):
            return ModuleSpec(fullname, self, is_package=fullname == COMPILER)
        if fullname.startswith(f"{COMPILER}."):
            self.give_way()
            if fullname in sys.modules:
                return ModuleSpec(fullname, _Imported())
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Compiler(spec.name, self) if spec.name == COMPILER else ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        if module.__name__ == WRAPPED:
            vars(module)["TransformGetItemToIndex"] = self.transform

    def transform(self) -> Any:
        """What masks of attention are vectorised with, in models other than CLIP."""
        self.give_way()
        return import_module(WRAPPED).TransformGetItemToIndex()

    def give_way(self) -> ModuleType:
        """The compiler itself, imported now."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
            for name in (COMPILER, WRAPPED):
                sys.modules.pop(name, None)
        return import_module(COMPILER)


class _Imported(Loader):
    """Of a module that was imported on the way."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        pass


def _unmarked(function: Any) -> Any:
    return function


def _disable(fn: Any = None, *args: Any, **options: Any) -> Callable[..., Any]:
    return _unmarked if fn is None else fn


class _Compiled:
    """A compiled module; there is none."""


class _Compiler(ModuleType):
    """torch's compiler as far as imports need it: marks on functions, which only compiled code reads."""

    allow_in_graph = assume_constant_result = staticmethod(_unmarked)
    disable = staticmethod(_disable)
    eval_frame = SimpleNamespace(OptimizedModule=_Compiled)

    def __init__(self, name: str, later: _Later) -> None:
        super().__init__(name)
        self._later = later

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system looks for those that a module may lack
            raise AttributeError(name)
        return getattr(self._later.give_way(), name)
