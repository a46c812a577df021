"""The REST side of the time machine: files in, a replay begun, watched and ended, its objects and their receipts."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Blueprint, Response, request

from fabric.core.errors import BadInputError, UnavailableError
from fabric.dashboard.api import json_body, json_response, limit_of, principal
from fabric.dashboard.ports import RUN_COMMAND, TimeMachine

ROOT = "/api/replays"
SEARCH_MOST = 1000


class Replays:
    """The handlers; each asks the engine's time machine, which checks the caller's role itself."""

    def __init__(self, machine: TimeMachine | None) -> None:
        self._machine = machine

    def blueprint(self) -> Blueprint:
        """Return the routes."""
        blue = Blueprint("dashboard_replays", __name__)
        blue.add_url_rule(ROOT, view_func=self.overview)
        blue.add_url_rule(ROOT, view_func=self.start, methods=["POST"])
        upload = f"{ROOT}/uploads/<upload>"
        blue.add_url_rule(f"{upload}/<role>/<name>", view_func=self.take, methods=["PUT"])
        blue.add_url_rule(upload, view_func=self.drop, methods=["DELETE"])
        blue.add_url_rule(f"{ROOT}/<replay>", view_func=self.state)
        blue.add_url_rule(f"{ROOT}/<replay>", view_func=self.end, methods=["DELETE"])
        blue.add_url_rule(f"{ROOT}/<replay>/objects", view_func=self.objects)
        blue.add_url_rule(f"{ROOT}/<replay>/objects/<int:number>", view_func=self.receipt)
        return blue

    def overview(self) -> Response:
        """Answer what can be chosen, what runs and the results kept."""
        return json_response(self._known.overview(principal()))

    def take(self, upload: str, role: str, name: str) -> Response:
        """Receive one file of an upload; its bytes are the body."""
        stream: Any = request.stream
        return json_response(self._known.take(principal(), upload, role, name, stream), 201)

    def drop(self, upload: str) -> Response:
        """Remove an upload that is not wanted any more."""
        return json_response(self._known.drop(principal(), upload))

    def start(self) -> Response:
        """Begin a replay; 202 while it runs, 200 where the same question was answered before."""
        found = self._known.start(principal(), json_body())
        return json_response(found, 200 if found["state"] == "done" else 202)

    def state(self, replay: str) -> Response:
        """Answer a replay's progress or result."""
        return json_response(self._known.state(replay))

    def end(self, replay: str) -> Response:
        """Cancel a replay, or remove its result."""
        return json_response(self._known.end(principal(), replay))

    def objects(self, replay: str) -> Response:
        """Answer a page of a result's objects."""
        asked = request.args
        found = self._known.objects(
            replay,
            search=asked.get("search", "")[:SEARCH_MOST],
            cursor=asked.get("cursor") or None,
            limit=limit_of(),
            sort=asked.get("sort", ""),
        )
        return json_response(msgspec.to_builtins(found))

    def receipt(self, replay: str, number: int) -> Response:
        """Answer one object's receipt."""
        if number >= 1 << 62:
            raise BadInputError("objects are numbered from 0", object=str(number)[:40])
        return json_response(self._known.receipt(replay, number))

    @property
    def _known(self) -> TimeMachine:
        if self._machine is None:
            raise UnavailableError("this process only shows reports", hint=f"start the fabric with {RUN_COMMAND}")
        return self._machine
