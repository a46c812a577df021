"""The results of replays on disk: listed, opened, kept and, beyond the newest few, removed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import msgspec

from fabric.app.replaytold import ANSWER_FILE, PROGRESS_FILE, QUESTION_FILE
from fabric.core.clock import iso
from fabric.core.errors import NotFoundError
from fabric.core.files import write_whole
from fabric.placement.replay.kept import Kept

FORMAT = 1  # of a result; another one is replayed again
RESULTS_MOST = 20
ID_LETTERS = 24
KIND_FILE = "kind.json"


class Kind(msgspec.Struct, frozen=True):
    """What is kept beside a result: what was asked and of which files."""

    format: int
    id: str
    asked: dict[str, Any]
    files: list[dict[str, Any]]
    begun: float
    seconds: float

    @property
    def facts(self) -> dict[str, Any]:
        """What a list of replays says of it."""
        return {
            "id": self.id,
            "asked": self.asked,
            "files": self.files,
            "begun": iso(self.begun),
            "seconds": self.seconds,
        }


class Results:
    """The results below ``folder``, each in a folder named by the hash of its inputs. Safe from any thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: tuple[str, Kept] | None = None

    def path(self, name: str) -> Path:
        """Return where a result lies, or would lie."""
        return self._folder / name

    def all(self) -> list[Kind]:
        """Return what is kept, the newest first."""
        names = [path.name for path in self._folder.iterdir()] if self._folder.is_dir() else []
        found = [kind for name in names if (kind := self.find(name)) is not None]
        return sorted(found, key=lambda kind: kind.begun, reverse=True)

    def find(self, name: str) -> Kind | None:
        """Return what is kept of a result; None where it is none, or one of another format."""
        if len(name) != ID_LETTERS or not name.isalnum():
            return None
        try:
            kind = msgspec.json.decode((self.path(name) / KIND_FILE).read_bytes(), type=Kind)
        except (OSError, msgspec.MsgspecError):
            return None
        return kind if kind.format == FORMAT else None

    def get(self, name: str) -> Kind:
        """Return what is kept of a result; NotFoundError where it is none."""
        kind = self.find(name)
        if kind is None:
            raise NotFoundError("there is no such replay", id=name[:64], hint="it may have been replaced; run it again")
        return kind

    def document(self, name: str) -> dict[str, Any]:
        """Return a result's answer."""
        return msgspec.json.decode((self.path(name) / ANSWER_FILE).read_bytes(), type=dict[str, Any])

    def objects(self, name: str) -> Kept:
        """Return a result's objects; NotFoundError where there is no such result."""
        self.get(name)
        opened = self._open
        if opened is None or opened[0] != name:
            opened = self._open = (name, Kept(self.path(name)))
        return opened[1]

    def keep(self, kind: Kind, result: Path, within: Path) -> None:
        """Move a finished replay's folder ``result`` here, and remove the oldest where there are too many.

        Args:
            within: the replay's own folder, whose name no result shows.
        """
        write_whole(result / KIND_FILE, msgspec.json.encode(kind), durable=False)
        text = without_paths((result / ANSWER_FILE).read_bytes(), within)
        write_whole(result / ANSWER_FILE, text, durable=False)
        for name in (PROGRESS_FILE, QUESTION_FILE):
            (result / name).unlink(missing_ok=True)
        self._folder.mkdir(parents=True, exist_ok=True)
        self.remove(kind.id)
        result.rename(self.path(kind.id))
        for old in self.all()[RESULTS_MOST:]:
            self.remove(old.id)

    def remove(self, name: str) -> None:
        """Remove a result; one that is not there is removed already."""
        shutil.rmtree(self.path(name), ignore_errors=True)


def without_paths(text: bytes, folder: Path) -> bytes:
    """Return JSON that names files as people know them, not where they lay."""
    given = re.escape(f"{folder}/given/").encode() + rb"\w+/"
    return re.sub(given, b"", text.replace(f"{folder}/result/".encode(), b""))
