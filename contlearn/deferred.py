"""Import a module without the libraries that it only names.

Some modules of large libraries import another library for one comparison, an annotation or a
function that nothing here calls, and so cost seconds. `DeferringFinder` runs such a module with
stand-ins for what it names; a stand-in loads the real library when something of it is called or
read. Only the import statements of the modules named see stand-ins: `sys.modules` never holds one,
nobody else is given one, and a library that is loaded already is never replaced.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import importlib
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any, TypeAlias

__all__ = ["DeferringFinder", "Named", "deferring", "quiet_imports", "uncollected"]

# Module → library → the classes and functions it takes from there; none where it takes the library.
Named: TypeAlias = Mapping[str, Mapping[str, Sequence[str]]]


@contextlib.contextmanager
def deferring(finder: MetaPathFinder) -> Iterator[None]:
    """Let a finder choose how modules are run that are imported inside this block."""
    sys.meta_path.insert(0, finder)
    try:
        with quiet_imports():
            yield
    finally:
        sys.meta_path.remove(finder)


@contextlib.contextmanager
def quiet_imports() -> Iterator[None]:
    """Silence what libraries that others pull in warn of while they are imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keep the cyclic garbage collector away while libraries are imported.

    What torch and transformers bring, half a million objects, lives as long as the process; looking
    through it again and again while it grows is a seventh of the time of their import.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class DeferringFinder(MetaPathFinder):
    """Finds modules where they are; those that only name a library run without it."""

    def __init__(self, named: Named) -> None:
        self._named = named

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module that is named; leave every other to whoever comes next."""
        if fullname not in self._named:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _WithoutLibraries(spec.loader, self._named[fullname])
        return spec


class _WithoutLibraries(Loader):
    """Runs a module whose own import statements give stand-ins for libraries not loaded."""

    def __init__(self, real: Loader, libraries: Mapping[str, Sequence[str]]) -> None:
        self._real = real
        self._libraries = libraries
        self._is_running = False

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        # The import statement calls what its module's builtins name `__import__`.
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._import}
        self._is_running = True
        try:
            self._real.exec_module(module)
        finally:
            self._is_running = False

    def _import(
        self,
        name: str,
        globals: Mapping[str, object] | None = None,
        locals: Mapping[str, object] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if self._is_running and name in self._libraries and name not in sys.modules:
            found = _LibraryLater(name)
            for taken in self._libraries[name]:
                setattr(found, taken, _NameLater(taken, (), {"library": name}))
            if fromlist:
                return found
            # `import a.b as c` asks for a, and takes b from it.
            while "." in found.__name__:
                parent, _, child = found.__name__.rpartition(".")
                above = _LibraryLater(parent)
                setattr(above, child, found)
                found = above
            return found
        return __import__(name, globals, locals, fromlist or (), level)


class _LibraryLater(ModuleType):
    """Stands in one module for a library that is loaded when something of it is used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return getattr(_loaded(self.__name__), name)


class _NameLater(type):
    """Stands for a class or function; nothing is its instance before its library is loaded."""

    library: str

    def __instancecheck__(cls, instance: object) -> bool:
        loaded = sys.modules.get(cls.library)
        return loaded is not None and isinstance(instance, getattr(loaded, cls.__name__))

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        return getattr(_loaded(cls.library), cls.__name__)(*arguments, **options)


def _loaded(library: str) -> ModuleType:
    with quiet_imports():
        return importlib.import_module(library)
