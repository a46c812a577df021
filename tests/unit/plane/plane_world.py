"""The object API over local stores, the real vault and a real server; the other neighbours are told by the test."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

from fabric.core.clock import SystemClock
from fabric.core.config import PolicySettings, Settings
from fabric.core.errors import BadInputError, FrozenError
from fabric.core.words import Classification, Criticality, Merge, ObjectPolicy, Place
from fabric.events.batch import AccessBatch
from fabric.plane.http import object_api
from fabric.plane.objects import Objects
from fabric.runtime.problems import install_problem_handlers
from fabric.security.keys import KeyTable
from fabric.security.roots import RootKey
from fabric.security.vault import Vault

sys.path.insert(0, str(Path(__file__).parents[1] / "consistency"))
from consistency_fakes import Bench, bench

SETTINGS = Settings(
    policies=(
        PolicySettings(prefix="open/", classification=Classification.PUBLIC),
        PolicySettings(prefix="secret/", classification=Classification.CONFIDENTIAL),
        PolicySettings(prefix="low/", criticality=Criticality.LOW),
        PolicySettings(prefix="carts/", merge=Merge.MULTI_VALUE),
    )
)


@dataclass
class Intake:
    noted: list[AccessBatch] = field(default_factory=list)
    accepted: list[AccessBatch] = field(default_factory=list)
    refuses: Exception | None = None

    def accept(self, batch: AccessBatch) -> tuple[int, int]:
        self.accepted.append(batch)
        return sum(len(one) for one in self.accepted[:-1]), len(batch)

    def note(self, batch: AccessBatch) -> None:
        self.noted.append(batch)

    def ready(self) -> None:
        if self.refuses is not None:
            raise self.refuses


@dataclass
class Audit:
    lines: list[tuple[str, str, str]] = field(default_factory=list)

    def append_done(self, action: str, who: str, subject: str, **details: object) -> bool:
        self.lines.append((action, who, subject))
        return True

    def ready(self) -> None:
        """Nothing waits."""


@dataclass
class Freeze:
    frozen: bool = False

    def check(self) -> None:
        if self.frozen:
            raise FrozenError("everything is frozen", hint="lift it by name")


@dataclass
class Principal:
    name: str = "tester"
    classes: frozenset[Classification] = frozenset(Classification)
    anonymous: bool = False
    actions: tuple[str, ...] = ("write",)

    def may(self, action: str) -> bool:
        return action in self.actions

    def may_read(self, classification: Classification) -> bool:
        return classification in self.classes


@dataclass
class Chooser:
    places: tuple[Place, ...]

    def choose(self, key: str, policy: ObjectPolicy, *, size_bytes: int, reads_per_month: float | None = None):
        return self.places


def no_decoder(body: bytes, content_type: str) -> AccessBatch:
    raise BadInputError("the body is not a batch", hint="send columns or NDJSON")


@dataclass
class World:
    bench: Bench
    objects: Objects
    app: Flask
    intake: Intake
    audit: Audit
    freeze: Freeze
    principal: Principal
    chooser: Chooser


def world(folder: Path, stores: list) -> World:
    keys = KeyTable((folder / "keys-1", folder / "keys-2"), RootKey.fresh(), SystemClock())
    made = bench(folder, stores, vault=Vault(keys))
    intake, audit, freeze, principal = Intake(), Audit(), Freeze(), Principal()
    chooser = Chooser(made.places)
    objects = Objects(
        made.heads,
        made.replication,
        made.reader,
        fleet=made.fleet,
        chooser=chooser,
        intake=intake,
        audit=audit,
        freeze=freeze,
        settings=SETTINGS,
        clock=SystemClock(),
    )
    app = Flask(__name__)
    install_problem_handlers(app)
    api = object_api(objects, intake, lambda _: principal, decode=no_decoder, policy_of=SETTINGS.policy_for)
    app.register_blueprint(api)
    return World(made, objects, app, intake, audit, freeze, principal, chooser)


class Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def served(app: Flask) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
