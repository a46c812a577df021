"""Builds the web application: guard, pages, REST and Socket.IO over the ports it is given."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from flask import Flask, Response, redirect, request
from flask_socketio import SocketIO
from werkzeug.wrappers import Response as BaseResponse

from fabric.core.errors import UnauthorisedError
from fabric.dashboard.api import Api, principal, text_of
from fabric.dashboard.board import Board
from fabric.dashboard.guard import Guard
from fabric.dashboard.hub import Hub
from fabric.dashboard.ports import DashboardPorts, Exposure, Principal
from fabric.dashboard.replays import Replays
from fabric.dashboard.sessions import LOCAL, SESSION_SECONDS, OneTimeLinks, Sessions
from fabric.dashboard.watch import ExportWatcher
from fabric.runtime.problems import install_problem_handlers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PAGE = "dashboard_interactive.html"
SIGN_IN = "sign_in.html"
TIME_MACHINE, TIME_MACHINE_PAGE = "/time-machine", "time_machine.html"
GZIP_FROM_BYTES = 1024
GZIP_LEVEL = 5
SOCKET_BYTES_MOST = 16 << 10  # what a browser may send; it has nothing to say
TOKEN_CHARACTERS_MOST = 4096
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Guarded(Flask):
    """Flask behind the guard: whatever calls the application calls that."""

    guard: Guard

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return self.guard(environ, start_response)


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A built dashboard. ``watcher`` is not started; ``links`` issues codes for ``/?once=CODE``."""

    app: Flask
    socketio: SocketIO
    hub: Hub
    watcher: ExportWatcher
    links: OneTimeLinks


def create_app(ports: DashboardPorts) -> tuple[Flask, SocketIO]:
    """Return the application and its Socket.IO server, for whoever runs the watcher himself."""
    dashboard = build(ports)
    return dashboard.app, dashboard.socketio


def build(ports: DashboardPorts) -> Dashboard:
    """Build everything; starts no thread."""
    app = Guarded("fabric.dashboard", static_folder=str(ports.web / "static"), template_folder=None)
    socketio = SocketIO(
        app,
        async_mode="threading",
        path="/socket.io/",
        cors_allowed_origins=[],  # the guard checks the origin; no cross-origin header is ever sent
        always_connect=True,
        manage_session=False,
        transports=list(ports.transports),
        max_http_buffer_size=SOCKET_BYTES_MOST,
    )
    hub = Hub(Board(ports.folder, ports.report_key, ports.clock), socketio, ports.clock)
    sessions, links = Sessions(ports.session_key, ports.clock), OneTimeLinks(ports.clock)
    _Pages(ports, sessions, links).install(app)
    app.register_blueprint(Api(ports, hub).blueprint())
    app.register_blueprint(Replays(ports.time_machine).blueprint())
    install_problem_handlers(app)
    app.after_request(_secured)
    app.after_request(_tagged_and_packed)
    _install_sockets(socketio, hub)
    app.guard = Guard(
        app.wsgi_app,
        who=ports.who,
        sessions=sessions,
        exposure=ports.exposure,
        hosts=ports.hosts,
        ready=ports.ready,
    )
    return Dashboard(app, socketio, hub, hub.watcher(ports.folder), links)


class _Pages:
    """The pages and the ways to gain a session."""

    def __init__(self, ports: DashboardPorts, sessions: Sessions, links: OneTimeLinks) -> None:
        self._ports = ports
        self._sessions = sessions
        self._links = links

    def install(self, app: Flask) -> None:
        """Add the routes, and the page that asks for a token where one is missing."""
        app.add_url_rule("/", view_func=self.page)
        app.add_url_rule(TIME_MACHINE, view_func=self.time_machine)
        app.add_url_rule(f"{TIME_MACHINE}/<replay>", view_func=self.time_machine)
        app.add_url_rule("/login", view_func=self.sign_in)
        app.add_url_rule("/login", view_func=self.signed_in, methods=["POST"])

    def page(self) -> BaseResponse:
        """Answer the dashboard; a good one-time code buys a session first and leaves the address bar."""
        if "once" in request.args:
            if self._links.redeem(request.args["once"]):
                return self._with_session(LOCAL)
            if self._ports.exposure is not Exposure.LOOPBACK and principal() is None:
                return redirect("/login", 303)
            return redirect("/", 303)
        return self._html(PAGE)

    def time_machine(self, **_address: str) -> BaseResponse:
        """Answer the time machine's page; its script reads from the address which replay is meant."""
        return self._html(TIME_MACHINE_PAGE)

    def sign_in(self) -> BaseResponse:
        """Answer the form that takes a token."""
        return self._html(SIGN_IN)

    def signed_in(self) -> BaseResponse:
        """Give a session for a known token."""
        token = request.form.get("token", "").strip()
        who = self._ports.who(token) if 0 < len(token) <= TOKEN_CHARACTERS_MOST else None
        if who is None:
            raise UnauthorisedError(
                "the token is not known", hint="it is the field token of engine.json in the data folder"
            )
        return self._with_session(who)

    def _html(self, name: str) -> Response:
        return Response(text_of(self._ports.web / "templates" / name), mimetype="text/html")

    def _with_session(self, who: Principal) -> BaseResponse:
        response = redirect("/", 303)
        response.set_cookie(
            self._sessions.cookie_name,
            self._sessions.sign(who),
            max_age=int(SESSION_SECONDS),
            httponly=True,
            samesite="Strict",
            secure=self._ports.secure,
        )
        return response


def _install_sockets(socketio: SocketIO, hub: Hub) -> None:
    def connected() -> None:
        hub.connect(_sid())

    def disconnected(*_reason: object) -> None:
        hub.disconnect(_sid())

    socketio.on_event("connect", connected)
    socketio.on_event("disconnect", disconnected)


def _sid() -> str:
    return str(cast(Any, request).sid)  # Flask-SocketIO adds it to the request, unknown to its type


def _secured(response: Response) -> Response:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    if request.path.startswith(("/api/", "/metrics", "/healthz", "/readyz", TIME_MACHINE)) or request.path == "/":
        response.headers.setdefault("Cache-Control", "no-cache")
    return response


def _tagged_and_packed(response: Response) -> Response:
    """Give our own answers an ETag and, where the client takes it, gzip; object bytes pass untouched."""
    if response.status_code != 200 or request.path.startswith(("/api/objects", "/api/events")):
        return response
    if not _is_text(response) or response.headers.get("Content-Encoding"):
        return response
    response.direct_passthrough = False
    data = response.get_data()
    if request.method in ("GET", "HEAD") and not response.headers.get("ETag"):
        response.set_etag(hashlib.blake2b(data, digest_size=12).hexdigest(), weak=True)
    response.vary.add("Accept-Encoding")
    if len(data) >= GZIP_FROM_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        response.set_data(gzip.compress(data, GZIP_LEVEL, mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    if request.method in ("GET", "HEAD"):
        response.make_conditional(request)
    return response


def _is_text(response: Response) -> bool:
    kind = response.mimetype or ""
    return kind in ("application/json", "image/svg+xml") or kind.startswith("text/")
