"""The process in which models are fitted, so that no request waits for the interpreter lock.

``python -m fabric.prediction.child FOLDER`` reads ``question.npz`` and ``models.npz``, does one update on one thread,
and leaves ``learned.npz`` and ``answer.npz``. It opens nothing else: no catalog, no store, no socket.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from fabric.core.child import NICENESS, environment
from fabric.core.errors import UnavailableError
from fabric.prediction.features import Window
from fabric.prediction.files import (
    load_answer,
    load_models,
    load_question,
    save_answer,
    save_models,
    save_question,
)
from fabric.prediction.work import Idents, Models, Plan, Update, update

MODELS_FILE, LEARNED_FILE = "models.npz", "learned.npz"
QUESTION_FILE, ANSWER_FILE, LOG_FILE = "question.npz", "answer.npz", "fit.log"
END_SECONDS = 1.0  # how long a process is given to end before it is killed
LOG_TAIL = 500  # characters of the process's last words in an error


class ChildFit:
    """Runs one update at a time in a process of its own.

    Args:
        folder: private to prediction; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def begin(self, models: Models, window: Window, idents: Idents, plan: Plan) -> None:
        """Start the update and return at once; one must not be under way."""
        assert self._process is None
        self._folder.mkdir(parents=True, exist_ok=True)
        save_models(self._folder / LEARNED_FILE, models)
        save_question(self._folder / QUESTION_FILE, window, idents, plan)
        (self._folder / ANSWER_FILE).unlink(missing_ok=True)
        with (self._folder / LOG_FILE).open("wb") as log:
            command = [sys.executable, "-m", "fabric.prediction.child", str(self._folder)]
            self._process = subprocess.Popen(
                command, env=environment(threads=1), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def poll(self) -> Update | None:
        """Return the update once it is done, None before.

        Raises:
            UnavailableError: the process ended without an answer; what was learned before is untouched.
        """
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return None
        self._process = None
        if code != 0:
            raise UnavailableError("the process that fits the models ended early", code=code, hint=self._last_words())
        return load_answer(self._folder / ANSWER_FILE, load_models(self._folder / LEARNED_FILE))

    def stop(self) -> None:
        """End the process, if one is under way."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _last_words(self) -> str:
        words = (self._folder / LOG_FILE).read_text(encoding="utf-8", errors="replace").strip()
        return words[-LOG_TAIL:] or "it was ended from outside, or memory ran out; it is tried again"


class InlineFit:
    """Runs an update in the calling thread: for tests and small scenarios."""

    def __init__(self) -> None:
        self._done: Update | None = None

    def begin(self, models: Models, window: Window, idents: Idents, plan: Plan) -> None:
        """Do the update."""
        self._done = update(models, window, idents, plan)

    def poll(self) -> Update | None:
        """Return the update."""
        return self._done

    def stop(self) -> None:
        """Nothing is under way between calls."""


def main(folder: Path) -> None:
    """Do the update that the question in ``folder`` asks for."""
    os.nice(NICENESS)
    window, idents, plan = load_question(folder / QUESTION_FILE)
    result = update(load_models(folder / LEARNED_FILE), window, idents, plan)
    save_models(folder / LEARNED_FILE, result.models)
    save_answer(folder / ANSWER_FILE, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
