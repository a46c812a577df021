"""Kernels: plain scalar functions over arrays, run as they are on little work and compiled with numba on much.

A kernel keeps to what gives the same bits either way: additions, multiplications, divisions and comparisons of floats
in the order written, functions of this package, named tuples of arrays, and nothing transcendental.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar, cast

import numpy as np

import fabric

UNCOMPILED_MOST = 2_000  # rows and lives up to which reading compiled code would take longer than running it plain

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel, *, work: int | None = None, lean: bool = False) -> Kernel:
    """Return ``kernel`` compiled, or as it is where there is little ``work`` (rows and lives); the bits are the same.

    Functions of this package that it calls are compiled with it. Compiled code is kept beside the package, or in the
    user's cache folder where that cannot be written, in a folder for the sources that it is made of: none is stale.

    Args:
        lean: the kernel makes no arrays of its own, so that nothing counts who holds one (each count is an atomic
            addition, in the innermost loops too), and its parts are small, so that they are copied to where they are
            called. Twice as fast where parts that take arrays are called per word or row.
    """
    if work is not None and work <= UNCOMPILED_MOST:
        return kernel
    return cast(Kernel, _compiled(kernel, lean, False))


def plain(kernel: Kernel) -> Kernel:
    """Return ``kernel`` to be run as it is, on Python's own numbers: an array's are slow to take out and to add up.

    Arrays are given as memory views, whose items are Python's numbers and which round to the same bits where they are
    set. A kernel must not divide by a float that may be zero.
    """

    def run(*values: Any) -> Any:
        return kernel(*map(_viewed, values))

    return cast(Kernel, run)


def _viewed(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        view = value.data
        return view if len(view.format) == 1 else value  # one whose items do not lie at their own alignment
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(_viewed, value))
    return value


@cache
def _compiled(kernel: FunctionType, lean: bool, within: bool) -> Callable[..., Any]:
    from numba import njit

    known = dict(kernel.__globals__)
    for name, part in _parts(kernel):
        known[name] = _compiled(part, lean, True)
    bound = FunctionType(kernel.__code__, known, kernel.__name__, kernel.__defaults__)
    bound.__module__, bound.__qualname__ = kernel.__module__, kernel.__qualname__
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    options |= {"_nrt": False, "forceinline": within} if lean else {}
    if within:  # nobody but its kernel calls it: half of the time to compile goes into ways in that are never used
        options |= {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        return cast(Callable[..., Any], njit(**options)(bound))
    return _kept(kernel, bound, options)


def _kept(kernel: FunctionType, bound: FunctionType, options: dict[str, Any]) -> Callable[..., Any]:
    """Compile with a folder for what is compiled: one of its own for every state of the sources it is made of."""
    import numba
    from numba import njit

    config: Any = numba.config
    before = config.CACHE_DIR
    try:
        config.CACHE_DIR = str(_folder(before) / f"kernels-{_digest(kernel)}")
        return cast(Callable[..., Any], njit(cache=True, **options)(bound))
    except (OSError, RuntimeError):  # there is no folder for compiled code: it is made anew in each process
        return cast(Callable[..., Any], njit(**options)(bound))
    finally:
        config.CACHE_DIR = before


def _folder(given: str) -> Path:
    """Return where compiled code is kept: where the user says, else beside the package, else in the user's folder."""
    beside = Path(fabric.__file__).parent / "__pycache__"
    if given:
        return Path(given)
    return beside if os.access(beside if beside.exists() else beside.parent, os.W_OK) else Path.home() / ".cache/fabric"


def _digest(kernel: FunctionType) -> str:
    """Return a digest of the sources of a kernel and its parts, of this module, and numba's release."""
    import numba

    files = {str(sys.modules[name].__file__) for name in _modules(kernel, set()) | {__name__}}
    found = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
    for file in sorted(files):
        found.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return found.hexdigest()[:16]


def _modules(kernel: FunctionType, seen: set[FunctionType]) -> set[str]:
    """Return the modules of a kernel and its parts, but for those that were seen."""
    found = {kernel.__module__}
    for _, part in _parts(kernel):
        if part not in seen:
            seen.add(part)
            found |= _modules(part, seen)
    return found


def _parts(kernel: FunctionType) -> Iterator[tuple[str, FunctionType]]:
    """Yield the functions of this package that a kernel calls, by the names by which it does."""
    home = fabric.__name__ + "."
    for name in kernel.__code__.co_names:
        part = kernel.__globals__.get(name)
        if isinstance(part, FunctionType) and (
            part.__module__ == kernel.__module__ or part.__module__.startswith(home)
        ):
            yield name, part
