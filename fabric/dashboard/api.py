"""The REST side: status, metrics, pages behind the cards, one object's story, and acts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from fabric.core.clock import iso
from fabric.core.errors import BadInputError, NotFoundError, TooLargeError, UnavailableError
from fabric.dashboard.guard import PRINCIPAL
from fabric.dashboard.hub import Hub
from fabric.dashboard.metrics import aggregate, prometheus
from fabric.dashboard.openapi import document
from fabric.dashboard.ports import RUN_COMMAND, DashboardPorts, Exposure, Principal
from fabric.dashboard.trace import explain
from fabric.runtime.component import SECTIONS, Page

ACT_BYTES_MOST = 2 << 20
LIMIT_MOST = 1000
PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Api:
    """The handlers, over the ports and the hub they read."""

    def __init__(self, ports: DashboardPorts, hub: Hub) -> None:
        self._ports = ports
        self._hub = hub

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blue = Blueprint("dashboard_api", __name__)
        blue.add_url_rule("/healthz", view_func=self.healthz)
        blue.add_url_rule("/readyz", view_func=self.readyz)
        blue.add_url_rule("/metrics", view_func=self.prometheus)
        blue.add_url_rule("/api/status", view_func=self.status)
        blue.add_url_rule("/api/metrics", view_func=self.metrics)
        blue.add_url_rule("/api/openapi.json", view_func=self.openapi)
        blue.add_url_rule("/api/session", view_func=self.session)
        blue.add_url_rule("/api/sample", view_func=self.sample)
        blue.add_url_rule("/api/pages/<section>/<kind>", view_func=self.page)
        blue.add_url_rule("/api/explain/<path:key>", view_func=self.explain)
        blue.add_url_rule("/api/acts/<act>", view_func=self.act, methods=["POST"])
        return blue

    def healthz(self) -> Response:
        """Say that this process answers."""
        return json_response({"status": "ok"})

    def readyz(self) -> Response:
        """Say whether requests can be served; 503 names what is missing."""
        if missing := self._ports.ready():
            raise UnavailableError(missing, hint="try again in a moment")
        return json_response({"status": "ready"})

    def status(self) -> Response:
        """Answer all seven sections, or with ``?trace=`` one object's nine stages."""
        if trace := request.args.get("trace"):
            return json_response(self._explain(self._ports.resolve(trace) or trace))
        sections = self._hub.board.status()
        response = json_response(sections)
        response.set_etag(_status_tag(sections), weak=True)
        return response

    def metrics(self) -> Response:
        """Answer every latest measure as JSON."""
        trusted = self._hub.board.trusted()
        return json_response(
            aggregate(self._ports.measures(), trusted, self._hub.figures(), self._ports.clock),
        )

    def prometheus(self) -> Response:
        """Answer every latest measure as Prometheus text."""
        return Response(prometheus(self._ports.measures(), self._hub.figures()), content_type=PROMETHEUS_TYPE)

    def openapi(self) -> Response:
        """Answer the description of the whole HTTP interface."""
        return json_response(document())

    def session(self) -> Response:
        """Tell the page who it is, what it may order and which freezes are in force."""
        who = principal()
        may = who is not None and self._ports.exposure is not Exposure.READ_ONLY
        return json_response(
            {
                "name": who.name if who else None,
                "role": who.role if who else None,
                "acts": sorted(self._ports.acts) if may else [],
                "engine": bool(self._ports.sources),
                "freezes": [
                    {"name": state.name, "who": state.who, "at": iso(state.at), "why": state.why}
                    for state in self._ports.freezes()
                ],
            }
        )

    def sample(self) -> Response:
        """Answer what is real and what is made up in the sample world."""
        if not self._ports.rules:
            raise NotFoundError("nothing is made up here: this is not the sample world")
        return json_response({"rules": [{"what": what, "rule": rule} for what, rule in self._ports.rules]})

    def page(self, section: str, kind: str) -> Response:
        """Answer one page of everything behind a card."""
        if section not in SECTIONS:
            raise NotFoundError("no such section", section=section, hint=f"known are {', '.join(SECTIONS)}")
        search, cursor, limit = request.args.get("search", ""), request.args.get("cursor") or None, limit_of()
        source = self._ports.sources.get(section)
        if source is None:
            return json_response(self._page_of_report(section, kind, search))
        return json_response(msgspec.to_builtins(source.page(kind, search=search, cursor=cursor, limit=limit)))

    def explain(self, key: str) -> Response:
        """Answer what every component did with one object."""
        return json_response(self._explain(key))

    def act(self, act: str) -> Response:
        """Carry out what a person orders; the act itself checks the role."""
        who = principal()
        assert who is not None, "the guard lets no change through without a principal"
        handler = self._ports.acts.get(act)
        if handler is None and not self._ports.acts:
            raise UnavailableError("this process only shows reports", hint=f"start the fabric with {RUN_COMMAND}")
        if handler is None:
            raise NotFoundError("no such act", act=act, hint=f"known are {', '.join(sorted(self._ports.acts))}")
        return json_response(handler(who, json_body()))

    def _explain(self, key: str) -> dict[str, Any]:
        self._ports.may_see(principal(), key)
        return explain(key, self._ports.sources, self._hub, self._ports.clock)

    def _page_of_report(self, section: str, kind: str, search: str) -> dict[str, Any]:
        """Return the rows that the report itself carries: all that a display process has."""
        table = self._hub.board.status()[section].get("tables", {}).get(kind)
        if table is None:
            raise NotFoundError("no such table in the report", section=section, kind=kind)
        rows = [row for row in table["rows"] if not search or _matches(row, search)]
        page = Page(table["columns"], rows, len(rows), None)
        note = f"the top rows of the last report; the running fabric pages all {table['total']}"
        return {**msgspec.to_builtins(page), "note": note}


def principal() -> Principal | None:
    """Return whom the guard let in with this request."""
    found: Principal | None = request.environ.get(PRINCIPAL)
    return found


def json_response(body: object, status: int = 200) -> Response:
    """Return compact JSON."""
    return Response(msgspec.json.encode(body), status=status, mimetype="application/json")


def json_body() -> dict[str, Any]:
    """Return the request's JSON object, {} for an empty body; BadInputError for anything else."""
    if (request.content_length or 0) > ACT_BYTES_MOST:
        raise TooLargeError("the body is larger than an act may send", most=ACT_BYTES_MOST)
    data = request.get_data(cache=False)
    if not data.strip():
        return {}
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadInputError(
            "the body is not a JSON object", reason=str(error), bytes=len(data), hint='send for example {"id": "..."}'
        ) from error


def limit_of() -> int:
    """Return how many rows are asked for; BadInputError for anything but 1 to LIMIT_MOST."""
    text = request.args.get("limit", "100")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= LIMIT_MOST:
        raise BadInputError("limit is a number of rows", limit=text[:20], hint=f"give 1 to {LIMIT_MOST}")
    return int(text)


def _matches(row: Mapping[str, Any], search: str) -> bool:
    return any(search in str(row.get(name, "")) for name in ("key", "id", "state"))


def _status_tag(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a tag of everything but the ages, which grow by themselves."""
    marks = [
        (name, view.get("digest"), view["report"]["status"], view["report"]["problem"], view.get("sequence"))
        for name, view in sections.items()
    ]
    edited = [view for view in sections.values() if view["report"]["status"] == "edited"]
    plain = [{**view, "report": None} for view in edited]
    return hashlib.blake2b(msgspec.json.encode([marks, plain]), digest_size=12).hexdigest()


def text_of(path: Path) -> str:
    """Return a page's file; a missing one is a broken installation and says so."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UnavailableError(
            "a page of the dashboard is missing", file=path.name, hint="install the folder web/ again"
        ) from error
