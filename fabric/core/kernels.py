"""Kernels: plain scalar functions over arrays, run as they are on little work and compiled with numba on much.

A kernel keeps to what gives the same bits either way: additions, multiplications, divisions and comparisons of floats
in the order written, functions of its own module, named tuples of arrays, and nothing transcendental.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, TypeVar, cast

import numpy as np

UNCOMPILED_MOST = 2_000  # rows and lives up to which reading compiled code would take longer than running it plain

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(kernel: Kernel, *, work: int | None = None, lean: bool = False) -> Kernel:
    """Return ``kernel`` compiled, or as it is where there is little ``work`` (rows and lives); the bits are the same.

    Functions of the kernel's module that it calls are compiled with it. Compiled code is kept beside the module, or
    in the user's cache folder where that cannot be written.

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
    for name in kernel.__code__.co_names:
        part = known.get(name)
        if isinstance(part, FunctionType) and part.__module__ == kernel.__module__:
            known[name] = _compiled(part, lean, True)
    bound = FunctionType(kernel.__code__, known, kernel.__name__, kernel.__defaults__)
    bound.__module__, bound.__qualname__ = kernel.__module__, kernel.__qualname__
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
    options |= {"_nrt": False, "forceinline": within} if lean else {}
    try:
        return cast(Callable[..., Any], njit(cache=True, **options)(bound))
    except RuntimeError:  # there is no folder for compiled code: it is made anew in each process
        return cast(Callable[..., Any], njit(**options)(bound))
