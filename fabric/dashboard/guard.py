"""The guard in front of every request and socket: which Host, which Origin, and who may change something.

It is WSGI middleware, so that Socket.IO's handshake and every blueprint stand behind the same door. Whom it let
in is ``environ["fabric.principal"]`` (None for a free read).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from werkzeug.http import parse_cookie

from fabric.core.errors import FabricError, ForbiddenError, UnauthorisedError, UnavailableError
from fabric.dashboard.ports import Exposure, Principal
from fabric.dashboard.sessions import Sessions
from fabric.runtime.problems import problem_response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PRINCIPAL = "fabric.principal"
DRAIN_BYTES_MOST = 4 << 20  # read off before a refusal, so that the client gets to see it
_DRAIN_BLOCK = 64 << 10
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ALWAYS_FREE = ("/healthz", "/login", "/static/")
_HOW_TO_SIGN = "send Authorization: Bearer TOKEN with the field token of engine.json in the data folder, or sign in"


class Guard:
    """Lets a request through to ``app``, or answers it with a problem document.

    Args:
        who: the principal of a bearer token; None for one that is not known.
        hosts: Host names accepted beside the loopback ones, without port.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        who: Callable[[str], Principal | None],
        sessions: Sessions,
        exposure: Exposure,
        hosts: Iterable[str] = (),
        ready: Callable[[], str] = str,
    ) -> None:
        self._app = app
        self._who = who
        self._sessions = sessions
        self._exposure, self._ready = exposure, ready
        self._hosts = _LOOPBACK | {host.lower() for host in hosts}

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            environ[PRINCIPAL] = self._admit(environ)
        except FabricError as error:
            _drain(environ)
            return problem_response(error.problem())(environ, start_response)
        return self._app(environ, start_response)

    def _admit(self, environ: WSGIEnvironment) -> Principal | None:
        self._check_host(environ)
        path = environ.get("PATH_INFO", "")
        change = environ["REQUEST_METHOD"] not in _READS and not path.startswith("/socket.io/")
        if change or path.startswith("/socket.io/"):
            _check_origin(environ)
        if change and path != "/login" and (missing := self._ready()):  # no token would help
            raise UnavailableError(missing, hint="try again once it runs")
        bearer = _bearer(environ)
        principal = self._by_token(bearer) if bearer else self._by_cookie(environ, change=change)
        if change:
            self._check_change(path, principal)
        elif principal is None and self._exposure is not Exposure.LOOPBACK and not _free(environ, path):
            raise UnauthorisedError("this page is behind a token", hint="sign in at /login, or " + _HOW_TO_SIGN)
        return principal

    def _check_host(self, environ: WSGIEnvironment) -> None:
        """Refuse a Host that is not ours: a foreign name that resolves here is an attack by a web page."""
        host = _host_name(environ.get("HTTP_HOST", ""))
        if host not in self._hosts and not _is_loopback(host):
            raise ForbiddenError(
                "the request names a host that is not this one",
                host=host[:100],
                hint="add it to hosts under [security] in fabric.toml if it is yours",
            )

    def _check_change(self, path: str, principal: Principal | None) -> None:
        if path == "/login":
            return
        if self._exposure is Exposure.READ_ONLY:
            raise ForbiddenError(
                "nothing can be changed over an open network without TLS",
                hint="set tls_cert and tls_key under [security], or FABRIC_TLS=proxy behind a TLS proxy",
            )
        if principal is None:
            raise UnauthorisedError("a change needs a token", hint=_HOW_TO_SIGN)

    def _by_token(self, token: str) -> Principal:
        principal = self._who(token)
        if principal is None:
            raise UnauthorisedError("the token is not known", hint=_HOW_TO_SIGN)
        return principal

    def _by_cookie(self, environ: WSGIEnvironment, *, change: bool) -> Principal | None:
        """Return whose session the cookie is; a change by cookie must come from our own page."""
        cookie = parse_cookie(environ).get(self._sessions.cookie_name, "")
        principal = self._sessions.who(cookie) if cookie else None
        if principal is not None and change and not environ.get("HTTP_ORIGIN"):
            raise ForbiddenError("a change by a page's session must name its origin", hint="send an Origin header")
        return principal


def _free(environ: WSGIEnvironment, path: str) -> bool:
    return path.startswith(_ALWAYS_FREE) or (path == "/" and "once=" in environ.get("QUERY_STRING", ""))


def _bearer(environ: WSGIEnvironment) -> str:
    kind, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def _check_origin(environ: WSGIEnvironment) -> None:
    origin = environ.get("HTTP_ORIGIN")
    if origin is None:
        return
    parts = urlsplit(origin)
    if _authority(parts.netloc, parts.scheme) != _authority(environ.get("HTTP_HOST", ""), parts.scheme):
        raise ForbiddenError("the request comes from another site", origin=origin[:100], hint="open our own page")


def _authority(netloc: str, scheme: str) -> str:
    """Return host and port in lower case, the scheme's own port left out."""
    default = ":443" if scheme == "https" else ":80"
    return netloc.lower().removesuffix(default)


def _host_name(host: str) -> str:
    """Return the name of ``name:port`` or ``[v6]:port``, in lower case and without a final dot."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().removesuffix(".")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _drain(environ: WSGIEnvironment) -> None:
    """Read a refused body off (bounded): closing on unread bytes would cost the client our answer."""
    left = min(_length(environ), DRAIN_BYTES_MOST)
    stream: Any = environ["wsgi.input"]
    while left > 0 and (block := stream.read(min(left, _DRAIN_BLOCK))):
        left -= len(block)


def _length(environ: WSGIEnvironment) -> int:
    text = environ.get("CONTENT_LENGTH") or "0"
    return int(text) if text.isdigit() else 0
