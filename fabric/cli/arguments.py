"""What is read from the command line and from files named there, before anything is done with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fabric.core.errors import BadInputError

JSON = "--json"


def json_first(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """Return the arguments with ``--json`` moved to the front, wherever it stood before ``--``, and whether it did."""
    given = list(arguments)
    end = given.index("--") if "--" in given else len(given)
    options, rest = given[:end], given[end:]
    if JSON not in options:
        return given, False
    return [JSON, *(one for one in options if one != JSON), *rest], True


def read_plan_file(path: Path) -> dict[str, Any]:
    """Return the plan that ``plan --out`` wrote; BadInputError where it is not one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise BadInputError(
            f"this is not a plan: {error}", file=str(path), hint="make one with: python -m fabric plan --out FILE"
        ) from error
