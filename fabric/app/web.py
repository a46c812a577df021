"""The pages, the API and the object API over one engine, and who asks through them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from flask import Request

from fabric.app.acts import Acts
from fabric.app.engine import Engine
from fabric.app.recorded import RecordedPast, scanned_stores
from fabric.app.replayasked import Known
from fabric.app.secrets import report_key, session_key
from fabric.app.showback import Record, Shown
from fabric.app.timemachine import TimeMachine
from fabric.core.errors import ForbiddenError, UnauthorisedError
from fabric.dashboard.guard import PRINCIPAL
from fabric.dashboard.ports import DashboardPorts, Exposure
from fabric.dashboard.server import Dashboard, build
from fabric.events.batch import AccessBatch
from fabric.events.decode import decode_columns, decode_ndjson
from fabric.plane.http import object_api
from fabric.runtime.component import Component
from fabric.security.tokens import LOCAL, Action, Principal, Role, Tokens


def pages(
    engine: Engine,
    exposure: Exposure,
    *,
    secure: bool = False,
    rules: Sequence[tuple[str, str]] = (),
    machine: TimeMachine | None = None,
) -> Dashboard:
    """Build the pages, the API and the object API over an engine."""
    asking = Asking(engine.tokens)
    ports = DashboardPorts(
        folder=engine.folder.exports,
        clock=engine.clock,
        session_key=session_key(engine.folder.path),
        report_key=report_key(engine.folder.path),
        who=engine.tokens.who,
        sources=_sources(engine),
        acts={name: asking.known(act) for name, act in Acts(engine).table().items()},
        measures=engine.measures.snapshot,
        freezes=engine.freeze.states,
        ready=lambda: "the fabric starts: it attaches its stores" if engine.attaching else "",
        may_see=lambda who, key: engine.objects.check_read(key, asking.principal(who)),
        resolve=engine.heads.key_of,
        time_machine=machine,
        exposure=exposure,
        hosts=engine.settings.security.hosts,
        secure=secure,
        rules=rules,
    )
    dashboard = build(ports)
    objects = object_api(
        engine.objects,
        engine.intake,
        asking.of_objects,
        decode=decode_events,
        policy_of=engine.policies.policy_for,
    )
    dashboard.app.register_blueprint(objects)
    return dashboard


def time_machine(engine: Engine) -> TimeMachine:
    """Build the time machine of an engine; whoever runs the engine stops it."""
    past = RecordedPast(engine.log)
    return TimeMachine(
        engine.folder.path / "timemachine",
        engine.clock,
        Asking(engine.tokens).principal,
        known=Known(engine.settings.prices, past.write, past.mark, scanned_stores(engine)),
        record=engine.audit.append_done,
    )


class Asking:
    """Says who asks."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def principal(self, found: Any) -> Principal:
        """Return who asks: a token's principal, a page session's by its name as of now, or nobody in particular."""
        if found is None:
            return self._tokens.anonymous()
        if isinstance(found, Principal):
            return found
        if found.name == LOCAL.name:
            return LOCAL
        row = next((row for row in self._tokens.all() if row.name == found.name), None)
        if row is None:
            raise UnauthorisedError("the token of this session was revoked", hint="sign in again")
        return Principal(row.name, Role(row.role), frozenset(row.classes))

    def known(self, act: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Return an act that is told the principal."""
        return lambda who, body: act(self.principal(who), body)

    def of_objects(self, request: Request) -> Principal:
        """Return who asks the object API; ForbiddenError for a write by a role that does not write."""
        who = self.principal(request.environ.get(PRINCIPAL))
        if request.method not in ("GET", "HEAD") and not who.may(Action.WRITE):
            raise ForbiddenError("your role does not write", role=str(who.role), hint="ask for the role operator")
        return who


def _sources(engine: Engine) -> dict[str, Component]:
    return {
        "optimization": Shown(engine.placement, Record(engine), engine.clock),
        "migration": engine.migration,
        "streaming": engine.streaming,
        "ml_predictions": engine.prediction,
        "consistency": engine.consistency,
        "security": engine.security,
        "alerts": engine.security,
    }


def decode_events(body: bytes, content_type: str) -> AccessBatch:
    """Read a body of ``POST /api/events``: NDJSON where its type says so, columns otherwise."""
    return decode_ndjson(body) if "ndjson" in content_type else decode_columns(body)
