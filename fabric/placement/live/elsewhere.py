"""Starts, watches and ends the process that reads a long past (`live.past`)."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Protocol

import msgspec

from fabric.core.child import environment
from fabric.core.errors import UnavailableError
from fabric.placement.live.past import PROBLEM_FILE, PROGRESS_FILE, QUESTION_FILE, READ_FILE, Far, Question, encoded

PREFIX = "past-"
LOG_FILE = "log"
LOG_TAIL = 500  # characters of the process's last words in an error
COMPILE_LEAST = 200_000  # days of objects from which on compiling is sooner done than running the rule as it is


class Elsewhere(Protocol):
    """Reads a past without the engine's interpreter."""

    @property
    def under_way(self) -> bool: ...
    def begin(self, question: Question) -> None: ...
    def poll(self) -> Path | None: ...
    def far(self) -> Far: ...
    def stop(self) -> None: ...


class ChildPast:
    """Reads one past at a time in a process of its own.

    Args:
        folder: made if missing; each process gets one of its own in it. What dead engines left there is removed.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{PREFIX}*"):
            shutil.rmtree(left, ignore_errors=True)
        self._folder = folder
        self._own = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def under_way(self) -> bool:
        """Whether a process was begun whose answer nobody has taken."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The process under way."""
        return None if self._process is None else self._process.pid

    def begin(self, question: Question) -> None:
        """Start reading and return at once; nothing must be under way.

        Raises:
            UnavailableError: no process can be started.
        """
        assert self._process is None
        try:
            self._own = Path(tempfile.mkdtemp(prefix=PREFIX, dir=self._folder))
            (self._own / QUESTION_FILE).write_bytes(encoded(question))
            with (self._own / LOG_FILE).open("wb") as log:
                command = [sys.executable, "-m", "fabric.placement.live.past", str(self._own)]
                self._process = subprocess.Popen(
                    command, env=environment(threads=1), stdin=subprocess.PIPE, stdout=log, stderr=log
                )
        except OSError as error:
            raise UnavailableError(f"no process can be started to read the past: {error}") from error

    def poll(self) -> Path | None:
        """Return the snapshot once it is read, None before; it is the caller's until the next `begin` or `stop`.

        Raises:
            UnavailableError: the process ended without one; the error's hint has its reason.
        """
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return None
        self._ended()
        if code != 0:
            raise UnavailableError("the process that reads the past ended early", code=code, hint=self._reason())
        return self._own / READ_FILE

    def far(self) -> Far:
        """Return how far the process is; nothing where it has not said so yet."""
        try:
            return msgspec.json.decode((self._own / PROGRESS_FILE).read_bytes(), type=Far)
        except FileNotFoundError:
            return Far()

    def stop(self) -> None:
        """End the process, if one is under way, and give its room back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._ended()
        if self._own != self._folder:
            shutil.rmtree(self._own, ignore_errors=True)

    def _ended(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None

    def _reason(self) -> str:
        try:
            return str(msgspec.json.decode((self._own / PROBLEM_FILE).read_bytes())["detail"])
        except FileNotFoundError:
            words = (self._own / LOG_FILE).read_text(encoding="utf-8", errors="replace").strip()
            return words[-LOG_TAIL:] or "it was ended from outside, or memory ran out"


def pays_to_compile(days_of_objects: int) -> bool:
    """Say whether so much is sooner done compiled, and can be."""
    return days_of_objects >= COMPILE_LEAST and importlib.util.find_spec("numba") is not None
