"""The engine: every part of the fabric over one data folder, built in the order in which they need each other."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from fabric.app.applied import AppliedMoves
from fabric.app.catalog import open_catalog
from fabric.app.coverage import CoverageWatch
from fabric.app.decorated import decorated
from fabric.app.headlogcare import HeadLogCare
from fabric.app.keys import key_folders, open_keys
from fabric.app.ledgers import ledgers_for
from fabric.app.policies import Policies
from fabric.app.prices import priced, reading_site
from fabric.app.remembered import remember_settings
from fabric.app.reporter import Reporter
from fabric.app.scans import Scans
from fabric.app.secrets import report_key
from fabric.app.watched import Watched
from fabric.catalog.adopted import Adopted
from fabric.catalog.alerts import AlertRows
from fabric.catalog.confighistory import ConfigHistory
from fabric.catalog.decisions import Decisions
from fabric.catalog.forecasts import Forecasts
from fabric.catalog.health import StoreHealth
from fabric.catalog.jobs import Jobs
from fabric.catalog.owed import Owed
from fabric.catalog.runs import Runs
from fabric.catalog.tokens import TokenRows
from fabric.consistency.component import Consistency, StoreCounts
from fabric.consistency.health import Health
from fabric.consistency.reading import Reader
from fabric.consistency.repair import Repairer
from fabric.consistency.replication import Replication
from fabric.core.clock import Clock
from fabric.core.config import Settings
from fabric.events.history import History
from fabric.events.log import EventLog
from fabric.migration.component import Migration
from fabric.migration.sealing import VaultSealer
from fabric.placement.component import Placement
from fabric.placement.places import PlaceChooser
from fabric.placement.scanned import Scans as ScannedTotals
from fabric.placement.work import Rules, Sources
from fabric.plane.objects import Objects
from fabric.prediction.child import ChildFit
from fabric.prediction.component import Prediction
from fabric.runtime.component import Component, Report
from fabric.runtime.folder import DataFolder, EngineMark
from fabric.runtime.freeze import Freeze
from fabric.runtime.measures import Measures
from fabric.runtime.reports import ReportPublisher
from fabric.runtime.supervisor import Supervisor
from fabric.security.alerts import Alerts
from fabric.security.audit import Audit
from fabric.security.component import Security
from fabric.security.erase import Eraser
from fabric.security.rules import built_in_rules
from fabric.security.throughput import Throughput
from fabric.security.tokens import Tokens
from fabric.security.vault import Vault
from fabric.security.webhook import webhook_for
from fabric.storage.atime import atime_trust
from fabric.storage.fleet import Fleet, Wrap
from fabric.storage.secrets import resolve
from fabric.streaming.component import Streaming
from fabric.streaming.intake import Intake

WRITER_LETTERS = 8  # of the folder's id; its end is random


class Engine:
    """Everything, wired. The folder's lease must be held; `start` starts the threads.

    Args:
        author: who gave the settings, for their history.
        wrap: what the sample world puts around its stores.
        progress: long work that no component owns, shown with ``consistency``.

    Raises:
        FabricError: something cannot be opened; what was opened before it is closed again.
    """

    def __init__(
        self,
        settings: Settings,
        folder: DataFolder,
        clock: Clock,
        *,
        author: str,
        wrap: Mapping[str, Wrap] | None = None,
        progress: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        self.settings, self.folder, self.clock, self._progress = settings, folder, clock, progress
        self.measures = Measures(clock)
        self.writer = folder.mark.id[-WRITER_LETTERS:]  # two engines may share a store, never a name in it
        self.policies = Policies(settings, self.measures)
        self.freeze = Freeze(folder.path / "freeze.json", clock)
        with ExitStack() as opened:
            self._open_catalog(author, opened)
            self._open_keys()
            self._open_stores(wrap, opened)
            self._open_history(opened)
            self._build_data_plane()
            self._build_components()
            opened.pop_all()
        self.scans = Scans(
            self.fleet,
            self.adopted,
            clock,
            freeze=self.freeze,
            record=self.audit.append_done,
            scanned=lambda: self.wake("placement"),
        )
        self._running = False
        self.attaching = False  # set by who lets requests in before `start`

    # ---------------------------------------------------------------- building, from the ground up

    def _open_catalog(self, author: str, opened: ExitStack) -> None:
        found = open_catalog(self.folder.path, key_folders(self.folder.path, self.settings), opened)
        self.head_log, self.database, self.heads = found.head_log, found.database, found.heads
        self.config_history = ConfigHistory(self.database)
        self.config_history.accept(self.settings, author, self.clock.now())
        remember_settings(self.folder.path, self.settings)

    def _open_keys(self) -> None:
        path = self.folder.path
        self.keys, root = open_keys(path, self.settings, self.clock)
        self.vault = Vault(self.keys)
        self.audit = Audit(path / "audit", self.clock, root.derive("audit"))
        self._token = secrets.token_urlsafe(32)
        self.tokens = Tokens(TokenRows(self.database), self.clock, self.audit.append, engine_token=self._token)

    def _open_stores(self, wrap: Mapping[str, Wrap] | None, opened: ExitStack) -> None:
        self.counts = StoreCounts()
        watched = Watched(Throughput(self.measures), self.measures, self.counts)
        self.fleet = Fleet(self.settings, self.clock, observe=watched.observe, wrap=wrap, hold=self.freeze.check)
        opened.callback(self.fleet.close)
        self.owed = Owed(self.database)
        self.health = Health(
            self.fleet,
            self.clock,
            self.settings.consistency,
            measures=self.measures,
            store_health=StoreHealth(self.database),
            owed=self._owes,
            writer=self.writer,
        )
        self.prices, self.site = priced(self.settings), reading_site(self.settings)
        self.chooser = PlaceChooser(
            self.fleet,
            self.prices,
            self.health,
            self.vault.suite_for,
            settings=self.settings.placement,
            clock=self.clock,
            reader=self.site,
        )

    def _open_history(self, opened: ExitStack) -> None:
        path = self.folder.path / "events"
        self.log = EventLog(path / "log", self.clock, segment_bytes=self.settings.streaming.segment_bytes)
        opened.callback(self.log.close)
        self.history = History(
            path / "history",
            half_life_hours=self.settings.placement.half_life_hours,
            unlearned=self.settings.placement.scanners,
        )
        opened.callback(self.history.close)
        self.ledgers = ledgers_for(self.settings, self.prices, self.folder.path, self.log, self.clock)
        opened.callback(self.ledgers.close)
        self.intake = Intake(self.log, self.clock, self.settings.streaming, self.measures)
        opened.callback(self.intake.close)

    def _build_data_plane(self) -> None:
        shared: dict[str, Any] = {"health": self.health, "clock": self.clock}
        strict = self.settings.consistency.strict_critical
        self.replication = Replication(
            self.heads,
            self.fleet,
            self.vault,
            owed=self.owed,
            strict_critical=strict,
            writer=self.writer,
            **shared,
        )
        self.repairer = Repairer(
            self.heads, self.fleet, self.vault, owed=self.owed, frozen=lambda: bool(self.freeze.states()), **shared
        )
        near = self.settings.consistency.near
        self.reader = Reader(self.heads, self.fleet, self.vault, near=near, suspect=self.repairer.suspect, **shared)
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
            policy_for=self.policies.policy_for,
        )

    def _build_components(self) -> None:
        settings, clock, measures = self.settings, self.clock, self.measures
        self.decisions, self.forecasts = Decisions(self.database, clock), Forecasts(self.database)
        self.jobs, self.adopted = Jobs(self.database), Adopted(self.database)
        self.runs = Runs(self.database)
        self.coverage = CoverageWatch(self.log, clock, settings.placement.coverage_floor)
        self.applied = AppliedMoves(
            self.decisions,
            self.folder.path / "applied.json",
            automatic=settings.migration.automatic,
            refusal=self.coverage.ask,
        )
        models = self.folder.path / "models"
        self.streaming = Streaming(
            self.intake, self.log, self.history, clock, settings=settings.streaming, measures=measures
        )
        self.prediction = Prediction(
            self.history,
            self.forecasts,
            ChildFit(models),
            clock=clock,
            measures=measures,
            settings=settings.prediction,
            folder=models,
        )
        self.placement = self._placement()
        self.migration = self._migration()
        self.consistency = self._consistency()
        self.security = self._security()
        self.components: list[Component] = [
            self.consistency,
            self.streaming,
            self.prediction,
            self.placement,
            self.migration,
            self.security,
        ]

    def _placement(self) -> Placement:
        sources = Sources(
            fleet=self.fleet,
            history=self.history,
            forecasts=self.forecasts,
            decisions=self.decisions,
            health=self.health,
            suite_for=self.vault.suite_for,
            busy=self.jobs.open_keys,
            ledger=self.ledgers,
        )
        rules = Rules(self.prices, self.settings.placement, self.settings.migration, self.site)
        return Placement(
            self.heads,
            sources,
            rules,
            clock=self.clock,
            measures=self.measures,
            freeze=self.freeze,
            adopted=ScannedTotals(self.adopted, self._atime_trust, self.clock),
            accounts=self.ledgers,
        )

    def _migration(self) -> Migration:
        return Migration(
            jobs=self.jobs,
            runs=self.runs,
            heads=self.heads,
            decisions=self.applied,
            fleet=self.fleet,
            health=self.health,
            sealer=VaultSealer(self.vault),
            freeze=self.freeze,
            audit=self.audit,
            measures=self.measures,
            clock=self.clock,
            settings=self.settings.migration,
            read_rate=self._read_rate,
            order=self.applied.order,
            four_eyes=lambda: self.tokens.four_eyes,
            policy_for=self.policies.policy_for,
        )

    def _consistency(self) -> Consistency:
        return Consistency(
            self.heads,
            self.fleet,
            health=self.health,
            repairer=self.repairer,
            owed=self.owed,
            clock=self.clock,
            counts=self.counts,
            housekeeping=HeadLogCare(self.head_log, self.heads, self.keys).look,
        )

    def _security(self) -> Security:
        rows = AlertRows(self.database, delivers=bool(self.settings.security.alert_webhook))
        self.alerts = Alerts(rows, built_in_rules(self.settings.thresholds), self.clock, self.audit.append)
        self.eraser = Eraser(
            self.keys,
            self.heads,
            self.replication.erase,
            self.audit.append,
            self.clock,
            forget=lambda key: self.head_log.forget([key]),
        )
        return Security(
            clock=self.clock,
            measures=self.measures,
            heads=self.heads,
            keys=self.keys,
            tokens=self.tokens,
            audit=self.audit,
            alerts=self.alerts,
            alert_rows=rows,
            fleet=self.fleet,
            webhook=webhook_for(self.settings.security.alert_webhook, rows, self.clock, resolve),
            states=self._states,
        )

    # ---------------------------------------------------------------- life

    def publish(self, url: str) -> EngineMark:
        """Make this engine known in the data folder, with its token for the folder's owner."""
        self.mark = self.folder.publish_engine(url, self._token)
        return self.mark

    def start(self) -> None:
        """Attach the stores and start the components, then reporter and scans."""
        assert self.mark is not None, "publish comes first"
        publisher = ReportPublisher(
            self.folder.exports, self.mark.id, report_key(self.folder.path), self.clock, self.folder.mark.world
        )
        self.supervisor = Supervisor(self.components, self.clock, after_tick=lambda _task: self.show())
        reporter = Reporter(
            self.components,
            publisher,
            self.clock,
            states=self.supervisor.states,
            decorate=self._decorate,
            measures=self.measures,
        )
        self._services = Supervisor([reporter, self.scans], self.clock)
        self.fleet.start()
        self.attaching = False
        self._running = True
        self.supervisor.start()
        self._services.start()

    def stop(self) -> None:
        """Stop what was started, in the reverse order, and close the catalog; within 5 s."""
        if self._running:
            self.scans.end()
            self.supervisor.stop()
            self._services.stop()  # after the components, whose last words it publishes
        else:
            self.intake.stop()
        self.fleet.close()
        self.intake.close()
        self.ledgers.close()
        self.log.close()
        self.database.stop()
        self.head_log.close()

    @property
    def running(self) -> bool:
        """Whether the components run; not so in a process that is the engine for one command."""
        return self._running

    def wake(self, component: str) -> None:
        """Ring a component's doorbell, where the components run."""
        if self._running:
            self.supervisor.wake(component)

    def show(self) -> None:
        """Publish soon what changed."""
        if self._running:
            self._services.wake("reporter")

    def _decorate(self, section: str, body: Report) -> Report:
        """Add what no component knows: the freezes in force, and the sample world's loading."""
        working = [*self._progress(), *self.scans.progress()] if section == "consistency" else []
        return decorated(section, body, freezes=self.freeze.states, refusal=self.coverage.refusal, working=working)

    # ---------------------------------------------------------------- what components ask of each other

    def _states(self) -> Mapping[str, Mapping[str, object]]:
        return {**self.supervisor.states(), **self._services.states()} if self._running else {}

    def _atime_trust(self, store: str) -> tuple[str, str]:
        trust = atime_trust(self.fleet.member(store).store)
        return trust.level, trust.why

    def _owes(self, store: str) -> bool:
        """Say whether the store still waits for replicas; blobs to be removed are none."""
        return self.owed.counts().get((store, "handoff"), 0) > 0

    def _read_rate(self, key: str) -> float:
        row = self.history.row(key)
        return 0.0 if row is None else self.history.rate_of(row, self.clock.now())
