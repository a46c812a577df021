"""Accesses from a Parquet trace: columns t, obj, size, op, n and bytes, one row an object's operations in a moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import BadInputError
from fabric.placement.replay.trace import Rows

COLUMNS = {"t": np.int64, "obj": np.int64, "size": np.int64, "op": np.int8, "n": np.int64, "bytes": np.float64}

NAME = "name"  # a column that names a trace's objects, which are then no plain numbers


def is_trace(path: Path) -> bool:
    """Say whether a file is Parquet and a trace whose objects are numbers (an inventory may be Parquet too)."""
    import pyarrow.parquet as pq
    from pyarrow import ArrowInvalid

    try:
        with path.open("rb") as file:
            if file.read(4) != b"PAR1":
                return False
        names = set(pq.read_schema(path).names)
        return set(COLUMNS) <= names and NAME not in names
    except ArrowInvalid:
        return False


def read_traces(paths: Sequence[Path]) -> Rows:
    """Read Parquet traces; several share one start and one numbering of objects.

    Raises:
        BadInputError: a file cannot be read or is damaged, or a column is missing, empty in a row, or not numeric.
    """
    if not paths:
        raise BadInputError("there is no trace to read", hint="name a file with --accesses")
    parts = [_read(path) for path in paths]
    joined = {
        name: np.concatenate([part[name] for part in parts]) if len(parts) > 1 else parts[0][name] for name in COLUMNS
    }
    return Rows(joined["t"], joined["obj"], joined["size"], joined["op"], joined["n"], joined["bytes"])


def _read(path: Path) -> dict[str, NDArray[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        missing = [name for name in COLUMNS if name not in names]
        if missing:
            raise BadInputError(
                "the file is no trace: columns are missing",
                file=str(path),
                missing=", ".join(missing),
                found=", ".join(names),
                hint="a trace has t, obj, size, op, n and bytes",
            )
        return {name: _column(pq.read_table(path, columns=[name]), name, kind, path) for name, kind in COLUMNS.items()}
    except OSError as error:
        raise BadInputError(f"the trace cannot be read: {error}", file=str(path)) from error
    except pa.ArrowInvalid as error:
        raise BadInputError(f"the trace is damaged: {error}", file=str(path), hint="fetch it again") from error


def _column(table: Any, name: str, kind: type, path: Path) -> NDArray[Any]:
    column = table.column(name)
    if column.null_count:
        raise BadInputError("the trace has rows without a value", file=str(path), column=name, rows=column.null_count)
    values: NDArray[Any] = column.to_numpy()
    if values.dtype.kind not in "iuf":
        raise BadInputError("a column of the trace is not numeric", file=str(path), column=name)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInputError("the trace has values that are no numbers", file=str(path), column=name)
    if name == "op" and len(values) and not ((values >= 0) & (values <= 2)).all():
        raise BadInputError("the trace has an unknown op", file=str(path), hint="0 PUT, 1 GET, 2 DELETE")
    if name == "t" and values.dtype.kind == "f":
        return np.asarray(values, np.float64)
    return values.astype(kind, copy=False)
