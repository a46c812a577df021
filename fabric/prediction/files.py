"""Models, questions and answers as plain arrays in a file: no code is ever unpickled."""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from fabric.core.errors import CorruptError
from fabric.core.files import write_whole
from fabric.prediction.ensemble import Outcomes, Score
from fabric.prediction.features import Window
from fabric.prediction.forest import Forest
from fabric.prediction.linear import Linear
from fabric.prediction.work import Forecasts, Idents, Models, Plan, Update

FORMAT_VERSION = 2  # 1: forecasts relative to the level; such models are learned again, the history is whole

Arrays = dict[str, NDArray[Any]]


def save_models(path: Path, models: Models) -> None:
    """Write the models whole; they can be learned again from the history, so nothing is flushed."""
    _write(path, _models_arrays(models))


def load_models(path: Path) -> Models:
    """Read the models; empty ones where there is no file.

    Raises:
        CorruptError: the file is damaged or of another format; removing it makes the models learn afresh.
    """
    return _models(_read(path), path) if path.exists() else Models()


def save_question(path: Path, window: Window, idents: Idents, plan: Plan) -> None:
    """Write what an update needs beside the models."""
    arrays: Arrays = {f"window.{name}": np.asarray(getattr(window, name)) for name in Window.__slots__}
    _write(path, arrays | {"idents": idents, "plan": _packed(asdict(plan))})


def load_question(path: Path) -> tuple[Window, Idents, Plan]:
    """Read what `save_question` wrote."""
    arrays = _read(path)
    fields = {name: arrays[f"window.{name}"] for name in Window.__slots__ if name != "first_day"}
    window = Window(first_day=int(arrays["window.first_day"]), **fields)
    return window, arrays["idents"], Plan(**_unpacked(arrays["plan"]))


def save_answer(path: Path, result: Update) -> None:
    """Write an update's forecasts and scores; the models go to their own file."""
    arrays: Arrays = {"scores": _packed([astuple(score) for score in result.scores])}
    arrays["count"] = np.asarray(len(result.forecasts))
    for number, made in enumerate(result.forecasts):
        arrays |= {f"{number}.{name}": np.asarray(getattr(made, name)) for name in Forecasts.__slots__}
    _write(path, arrays)


def load_answer(path: Path, models: Models) -> Update:
    """Read what `save_answer` wrote."""
    arrays = _read(path)
    made = [_forecasts(arrays, number) for number in range(int(arrays["count"]))]
    return Update(models, made, [Score(*values) for values in _unpacked(arrays["scores"])])


def _forecasts(arrays: Arrays, number: int) -> Forecasts:
    fields = {name: arrays[f"{number}.{name}"] for name in Forecasts.__slots__ if name not in ("day", "version")}
    return Forecasts(day=int(arrays[f"{number}.day"]), version=str(arrays[f"{number}.version"]), **fields)


def _models_arrays(models: Models) -> Arrays:
    arrays: Arrays = {"format": np.asarray(FORMAT_VERSION), "linear.rows": np.asarray(models.linear.rows)}
    arrays |= {"linear.gram": models.linear.gram, "linear.moment": models.linear.moment}
    arrays |= {f"forest.{name}": getattr(models.forest, name) for name in Forest.__slots__}
    arrays |= {f"outcomes.{name}": getattr(models.outcomes, name) for name in Outcomes.__slots__}
    return arrays | {"day": np.asarray(models.day), "updates": np.asarray(models.updates)}


def _models(arrays: Arrays, path: Path) -> Models:
    found = int(arrays["format"]) if "format" in arrays else 0
    if found not in (1, FORMAT_VERSION):
        raise _damaged(path)
    if found == 1:
        return Models(updates=int(arrays["updates"]))
    return Models(
        linear=Linear(arrays["linear.gram"], arrays["linear.moment"], float(arrays["linear.rows"])),
        forest=Forest(**{name: arrays[f"forest.{name}"] for name in Forest.__slots__}),
        outcomes=Outcomes(**{name: arrays[f"outcomes.{name}"] for name in Outcomes.__slots__}),
        day=int(arrays["day"]),
        updates=int(arrays["updates"]),
    )


def _packed(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(msgspec.msgpack.encode(value), dtype=np.uint8)


def _unpacked(array: NDArray[Any]) -> Any:
    return msgspec.msgpack.decode(array.tobytes())


def _write(path: Path, arrays: Arrays) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_whole(path, buffer.getvalue(), durable=False)


def _read(path: Path) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise _damaged(path) from error


def _damaged(path: Path) -> CorruptError:
    return CorruptError(
        "a file of the forecasting models cannot be read",
        path=str(path),
        hint="remove it: the models learn again from the history",
    )
