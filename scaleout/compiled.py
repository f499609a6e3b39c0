"""Functions that run as plain Python or, where it pays, compiled by numba from the same source.

A function marked `compilable` is plain until somebody asks for its ``compiled`` twin: the first
cold run never imports numba. Both give the same numbers: no fast-math, the same operations in
the same order.
"""

import dis
import functools
import hashlib
from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["Compilable", "borrowing", "compilable"]


class Compilable(Generic[P, R]):
    """A plain function with a compiled twin; see `compilable`."""

    def __init__(self, plain: Callable[P, R], *, borrows: bool = False) -> None:
        if not isinstance(plain, FunctionType):
            raise TypeError(f"{plain!r} is not a plain function")
        self.plain: FunctionType = plain
        self.borrows = borrows
        functools.update_wrapper(self, plain)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run plain."""
        result: R = self.plain(*args, **kwargs)
        return result

    def __reduce__(self) -> str:
        return self.plain.__qualname__

    @functools.cached_property
    def digest(self) -> str:
        """Of the function and of all that it calls: numba's cache on disk does not see into callees."""
        parts = [_fingerprint(self.plain.__code__), "borrows"] if self.borrows else [_fingerprint(self.plain.__code__)]
        parts += [value.digest for _, value in sorted(self._callees.items())]
        constants = {n: v for n, v in self._used().items() if isinstance(v, int | float | str | tuple)}
        parts.append(repr(sorted(constants.items())))
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]

    @functools.cached_property
    def compiled(self) -> Callable[P, R]:
        """The same function, compiled; the machine code is kept on disk between processes."""
        import numba

        scope = dict(self.plain.__globals__)
        scope |= {name: callee.compiled for name, callee in self._callees.items()}
        twin = FunctionType(self.plain.__code__, scope, self.plain.__name__, self.plain.__defaults__)
        twin.__module__ = self.plain.__module__
        twin.__qualname__ = f"{self.plain.__qualname__}_{self.digest}"
        options: dict[str, Any] = {"_nrt": False} if self.borrows else {}
        compiled: Callable[P, R] = numba.njit(cache=True, **options)(twin)
        return compiled

    def replacing(self, others: Mapping[str, Callable[..., Any]]) -> Callable[P, R]:
        """The same function, plain, where these functions stand in for those of their names that it,
        or what it calls, would call."""
        scope = dict(self.plain.__globals__)
        for name, callee in self._callees.items():
            scope[name] = others[name] if name in others else callee.replacing(others)
        twin: Any = FunctionType(self.plain.__code__, scope, self.plain.__name__, self.plain.__defaults__)
        replaced: Callable[P, R] = twin
        return replaced

    def _used(self) -> dict[str, Any]:
        # co_names also holds names of attributes, which may be those of other functions
        names = {op.argval for op in dis.get_instructions(self.plain) if op.opname == "LOAD_GLOBAL"}
        scope = self.plain.__globals__
        return {name: scope[name] for name in sorted(names) if name in scope and scope[name] is not self}

    @functools.cached_property
    def _callees(self) -> "dict[str, Compilable[Any, Any]]":
        return {name: value for name, value in self._used().items() if isinstance(value, Compilable)}


def compilable(plain: Callable[P, R]) -> Compilable[P, R]:
    """Mark a function of numbers and arrays as one that numba can compile.

    Call it as ever to run it plain; call its ``compiled`` to run machine code.

    >>> @compilable
    ... def twice(x):
    ...     return 2 * x
    >>> twice(2)
    4
    """
    return Compilable(plain)


def borrowing(plain: Callable[P, R]) -> Compilable[P, R]:
    """As `compilable`, for a function that makes no arrays and keeps none: it works on those that its caller holds.

    Machine code then counts no references, which takes most of the time of short functions that call each other.
    """
    return Compilable(plain, borrows=True)


def _fingerprint(code: CodeType) -> str:
    constants = [_fingerprint(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
