"""A function -> what it captures, in a form that can be compared.

A function that was traced once computes the same as long as nothing that it reads has
changed. What it reads are its variables: those of the function around it, global ones,
defaults, attributes of objects, and all of that for the functions among them. Arrays
are compared by identity, since JAX's arrays do not change. Installed packages count as
unchanged. What cannot be looked into (an open file, a random number generator) has no
state to compare.
"""

import enum
import functools
import pathlib
import sys
import sysconfig
import types
from collections.abc import Hashable, Iterator
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

MOST_OBJECTS = 10_000
"""A function that captures more objects is traced anew. That takes less time."""
MOST_BYTES = 2**20
"""So is one that captures a larger NumPy array, which would have to be compared."""

_PLAIN = (bool, int, str, bytes, type(None), type(...), range, slice, enum.Enum)
_CODE = (types.BuiltinFunctionType, types.MethodWrapperType, np.ufunc)


class _UnknownError(Exception):
    """Something was found that cannot be compared."""


class _Same:
    """Equals only what holds the very same object."""

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


def captured(*roots: Any) -> Hashable | None:
    """Describe functions and objects by all that they refer to.

    Returns:
        An object that equals a later one if nothing has changed. `None` if that cannot
        be told, or if there is a tracer, which must not outlive its trace.
    """
    try:
        found = _Walk().state(roots)
        hash(found)
    except (_UnknownError, RecursionError, TypeError, ValueError):
        return None
    return found


class _Walk:
    """Goes over objects, over each of them once."""

    def __init__(self) -> None:
        self.places: dict[int, tuple[int, Any]] = {}

    def state(self, x: Any) -> Hashable:
        """Describe an object."""
        if isinstance(x, _PLAIN):
            return type(x), x
        if isinstance(x, float | complex):  # 0.0 equals -0.0, but 1/x differs
            return type(x), repr(x)
        if id(x) in self.places:
            return self.places[id(x)][0]
        # The object is held, so that no later one gets its id.
        self.places[id(x)] = len(self.places), x
        if len(self.places) > MOST_OBJECTS or isinstance(x, Tracer):
            raise _UnknownError
        match x:
            case jax.Array():
                return _Same(x)
            case np.ndarray() | np.generic():
                return _contents(x)
            case types.FunctionType():
                return self._function(x)
            case types.MethodType():
                return self._all(x.__func__, x.__self__)
            case functools.partial():
                return self._all(x.func, x.args, x.keywords, vars(x))
            case list() | tuple():
                return type(x), self._all(*x)
            case set() | frozenset():
                return type(x), frozenset(map(self.state, x))
            case dict() | types.MappingProxyType():
                return type(x), self._all(*x.keys()), self._all(*x.values())
            case types.ModuleType():
                return _Same(x)
            case type():
                return self._class(x)
            case _:
                return self._object(x)

    def _all(self, *objects: Any) -> tuple[Hashable, ...]:
        return tuple(map(self.state, objects))

    def _function(self, fn: types.FunctionType) -> Hashable:
        """Describe a function by its code and all variables of that code."""
        cells = [_contents_of(cell) for cell in fn.__closure__ or ()]
        reads = [] if _is_installed(fn.__code__.co_filename) else _globals_of(fn)
        given = (fn.__defaults__, fn.__kwdefaults__, vars(fn))
        return fn.__code__, self._all(*cells), self._all(*reads), self._all(*given)

    def _class(self, cls: type) -> Hashable:
        """Describe a class by its attributes. One of a package does not change."""
        module = sys.modules.get(cls.__module__)
        if module is None or _is_installed(getattr(module, "__file__", None)):
            return _Same(cls)
        attributes = [
            getattr(x, "__func__", None) or getattr(x, "fget", None) or x
            for name, x in vars(cls).items()
            if callable(x) or not name.startswith("__")
        ]
        known = [x for x in attributes if not isinstance(x, _DESCRIPTORS)]
        return _Same(cls), self._all(*cls.__bases__), self._all(*known)

    def _object(self, x: Any) -> Hashable:
        """Describe an object by its attributes, or by itself if it equals others."""
        cls = type(x)
        if isinstance(x, _CODE):
            return _Same(x), self.state(getattr(x, "__self__", None))
        if cls is object or cls.__module__.partition(".")[0] == "jaxswap":
            return _Same(x)
        if hasattr(x, "__wrapped__"):
            return _Same(x), self.state(x.__wrapped__)
        slots = [s for base in cls.__mro__ for s in _slots(base) if hasattr(x, s)]
        if hasattr(x, "__dict__") or slots:
            attributes = [getattr(x, name) for name in slots]
            return self._all(cls, getattr(x, "__dict__", None), *attributes)
        if cls.__hash__ not in (None, object.__hash__):
            return cls, x
        raise _UnknownError


_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)


def _contents(array: Any) -> Hashable:
    """Describe a NumPy array by its bytes, since it may be written to."""
    if array.nbytes > MOST_BYTES or array.dtype.hasobject:
        raise _UnknownError
    return type(array), array.dtype, array.shape, array.tobytes()


def _contents_of(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a variable without a value yet
        return None


def _slots(cls: type) -> tuple[str, ...]:
    """Return the attributes that a class stores outside of `__dict__`."""
    slots = vars(cls).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if not name.startswith("__"))


def _globals_of(fn: types.FunctionType) -> Iterator[Any]:
    """Go over the global variables of a function, and over what it takes of modules."""
    names = _names(fn.__code__)
    for name in names:
        found = fn.__globals__.get(name)
        yield found
        if isinstance(found, types.ModuleType) and not _is_installed(
            getattr(found, "__file__", None)
        ):
            yield from (vars(found).get(attribute) for attribute in names)


@functools.lru_cache(4096)
def _names(code: types.CodeType) -> tuple[str, ...]:
    """Return the names in a function, and in the functions inside of it."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    names = (*code.co_names, *(name for c in inner for name in _names(c)))
    return tuple(dict.fromkeys(names))


@functools.lru_cache(4096)
def _is_installed(file: str | None) -> bool:
    """Whether code belongs to Python, to an installed package or to jaxswap."""
    if file is None or file.startswith("<frozen"):
        return True
    path = pathlib.Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    own = pathlib.Path(__file__).parent.parent
    return path.is_relative_to(sysconfig.get_path("stdlib")) or path.is_relative_to(own)
