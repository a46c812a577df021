"""The engine: every part of the fabric over one data folder, built in the order in which they need each other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fabric.app.acts import Acts
from fabric.app.applied import AppliedMoves
from fabric.catalog.adopted import Adopted
from fabric.catalog.confighistory import ConfigHistory
from fabric.catalog.database import Database
from fabric.catalog.decisions import Decisions
from fabric.catalog.forecasts import Forecasts
from fabric.catalog.headlog import HeadLog
from fabric.catalog.heads import Heads
from fabric.catalog.health import StoreHealth
from fabric.catalog.jobs import Jobs
from fabric.catalog.owed import Owed
from fabric.catalog.tokens import TokenRows
from fabric.consistency.component import Consistency
from fabric.consistency.health import Health
from fabric.consistency.reading import Reader
from fabric.consistency.replication import Replication
from fabric.core.clock import Clock
from fabric.core.config import Settings
from fabric.events.history import History
from fabric.events.log import EventLog
from fabric.migration.component import Migration
from fabric.migration.sealing import VaultSealer
from fabric.placement.component import Placement
from fabric.placement.places import PlaceChooser
from fabric.plane.objects import Objects
from fabric.prediction.child import ChildFit
from fabric.prediction.component import Prediction
from fabric.pricing.sheet import PriceBook
from fabric.runtime.component import Component
from fabric.runtime.folder import DataFolder, EngineMark
from fabric.runtime.freeze import Freeze
from fabric.runtime.measures import Measures
from fabric.security.alerts import Alerts
from fabric.security.audit import Audit
from fabric.security.component import Security
from fabric.security.erase import Eraser
from fabric.security.keys import KeyTable
from fabric.security.roots import open_root
from fabric.security.tokens import Tokens
from fabric.security.vault import Vault
from fabric.storage.fleet import Fleet
from fabric.storage.store import Store
from fabric.streaming.component import Streaming
from fabric.streaming.intake import Intake

REPORT_EVERY_SECONDS = 1.0  # a component's report is written at most this often
NEXT_REPORT_SECONDS = 10.0  # and at least this often; a card older than that turns grey
CATALOG_FILE = "catalog.db"

logger = logging.getLogger(__name__)

Dress = Callable[[str, Store], Store]  # wraps a store by its name; the sample world's alone


class Engine:
    """Everything, wired. Taking the lease and starting threads is `start`'s business, not the constructor's.

    Args:
        folder: of this engine alone; its lease must be held.
        author: who gave the settings, for their history.
        dress: what the sample world wraps its stores in.
        progress: long work that no component owns, for the report of ``consistency``.
    """

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        clock: Clock,
        *,
        author: str = "start",
        dress: Dress | None = None,
        progress: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self.settings, self.folder, self.clock, self._progress = settings, folder, clock, progress
        self.mark: EngineMark | None = None
        self._open_catalog(author)
        self._open_keys()
        self._open_stores(dress)
        self._open_history()
        self._build_data_plane()
        self._build_components()
        self.acts = Acts(self)

    # ---------------------------------------------------------------- building, from the ground up

    def _open_catalog(self, author: str) -> None:
        path = self.folder.path
        self.measures = Measures(self.clock)
        self.freeze = Freeze(path / "freeze.json", self.clock)
        self.database = Database(path / "catalog" / CATALOG_FILE)
        self.database.start()
        self.config_history = ConfigHistory(self.database)
        self.config_history.accept(self.settings, author, self.clock.now())

    def _open_keys(self) -> None:
        path, security = self.folder.path, self.settings.security
        folders = key_folders(path, self.settings)
        root = open_root(path / "keys", security.root_key, may_create=not any(f.glob("*.table") for f in folders))
        self.keys = KeyTable(folders, root, self.clock)
        self.vault = Vault(self.keys)
        self.audit = Audit(path / "audit", self.clock, root.derive("audit"))
        self.tokens = Tokens(TokenRows(self.database), self.clock, self.audit.append)
        self.head_log = HeadLog(folders, self.clock)
        self.heads = Heads(self.database, before_commit=self.head_log.append)

    def _open_stores(self, dress: Dress | None) -> None:
        self.fleet = Fleet(self.settings, self.clock, dress=dress)
        self.owed = Owed(self.database)
        self.health = Health(
            self.fleet,
            self.clock,
            self.settings.consistency,
            measures=self.measures,
            store_health=StoreHealth(self.database),
        )
        self.prices = PriceBook.load(Path(self.settings.prices) if self.settings.prices else None)
        self.chooser = PlaceChooser(
            self.fleet,
            self.prices,
            self.health,
            self.vault.suite_for,
            settings=self.settings.placement,
            clock=self.clock,
        )

    def _open_history(self) -> None:
        path = self.folder.path / "events"
        self.log = EventLog(path / "log", self.clock, segment_bytes=self.settings.streaming.segment_bytes)
        self.history = History(path / "history")
        self.intake = Intake(self.log, self.clock, self.settings.streaming, self.measures)

    def _build_data_plane(self) -> None:
        shared: dict[str, Any] = {"health": self.health, "clock": self.clock}
        strict = self.settings.consistency.strict_critical
        self.replication = Replication(
            self.heads, self.fleet, self.vault, owed=self.owed, strict_critical=strict, **shared
        )
        self.reader = Reader(self.heads, self.fleet, self.vault, **shared)
        self.objects = Objects(
            self.heads,
            self.replication,
            self.reader,
            fleet=self.fleet,
            chooser=self.chooser,
            intake=self.intake,
            audit=self.audit,
            freeze=self.freeze,
            settings=self.settings,
            clock=self.clock,
        )

    def _build_components(self) -> None:
        database, settings = self.database, self.settings
        self.decisions, self.forecasts, self.adopted = (
            Decisions(database, self.clock),
            Forecasts(database),
            Adopted(database),
        )
        self.applied = AppliedMoves(
            self.decisions, self.folder.path / "applied.json", automatic=settings.migration.automatic
        )
        shared: dict[str, Any] = {"clock": self.clock, "measures": self.measures}
        self.streaming = Streaming(self.intake, self.log, self.history, settings=settings, **shared)
        self.prediction = Prediction(
            self.history,
            self.forecasts,
            ChildFit(self.folder.path / "models"),
            settings=settings.prediction,
            folder=self.folder.path / "models",
            **shared,
        )
        self.migration = Migration(
            jobs=Jobs(database),
            heads=self.heads,
            decisions=self.applied,
            fleet=self.fleet,
            health=self.health,
            sealer=VaultSealer(self.vault),
            freeze=self.freeze,
            audit=self.audit,
            settings=settings.migration,
            **shared,
        )
        self.placement = Placement()
        self.consistency = Consistency()
        self.alerts = Alerts()
        self.security = Security()
        self.eraser = Eraser(self.keys, self.heads, self.replication.delete, self.audit.append, self.clock)
        self.components: list[Component] = [
            self.consistency,
            self.streaming,
            self.prediction,
            self.placement,
            self.migration,
            self.security,
        ]

    # ---------------------------------------------------------------- life
