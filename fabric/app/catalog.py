"""The catalog of a data folder and the head log that guards it, opened together."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fabric.catalog.database import Database
from fabric.catalog.headlog import HeadLog
from fabric.catalog.heads import Heads
from fabric.core.errors import CorruptError

CATALOG_FILE = "catalog.db"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Opened:
    """A catalog whose heads are those that the head log vouches for."""

    head_log: HeadLog
    database: Database
    heads: Heads


def open_catalog(folder: Path, key_folders: tuple[Path, ...], opened: ExitStack) -> Opened:
    """Open the catalog under ``folder`` and take back what a crash cut off; ``opened`` closes it.

    Raises:
        CorruptError: the catalog is missing although the head log knows objects.
    """
    head_log = HeadLog(key_folders)
    opened.callback(head_log.close)
    path = folder / "catalog" / CATALOG_FILE
    if head_log.sequence and not path.exists():
        hint = "bring it back: python -m fabric rebuild"
        raise CorruptError("the catalog is missing, but the head log knows objects", path=str(path), hint=hint)
    database = Database(path)
    opened.callback(database.stop)
    database.guard = head_log
    database.start()
    heads = Heads(database, before_commit=head_log.note)
    if cut_off := head_log.reconcile(heads.get_many):
        logger.warning("a crash cut off commits; their heads are taken back", extra={"heads": len(cut_off)})
    return Opened(head_log, database, heads)
