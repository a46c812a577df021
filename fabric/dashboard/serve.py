"""Runs the dashboard: a port really bound, a threaded HTTP/1.1 server, and an end within 2 s."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import logging
import socket
import ssl
import sys
import threading
from typing import Any

from werkzeug.serving import ThreadedWSGIServer

from fabric.core.clock import Clock
from fabric.core.errors import ConfigError, InUseError
from fabric.dashboard.http11 import Handler
from fabric.dashboard.server import Dashboard

logger = logging.getLogger(__name__)

BACKLOG = 256
HANDSHAKE_SECONDS = 10.0
STOP_SECONDS = 1.0
GOODBYE_SECONDS = 0.3  # for Socket.IO to say that it ends


def bind_free_port(bind: str, first: int, last: int) -> socket.socket:
    """Return a listening socket on the first free port of ``first`` to ``last``; 0 to 0 takes any.

    Raises:
        InUseError: every port is taken.
        ConfigError: the address is not one of this machine, or the port needs rights this user has not.
    """
    family = socket.AF_INET6 if ":" in bind else socket.AF_INET
    for port in range(first, last + 1):
        listener = socket.socket(family, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((bind, port))
            listener.listen(BACKLOG)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise _cannot_bind(bind, port, error) from error
        else:
            return listener
    raise InUseError(
        "every port of the dashboard is taken",
        bind=bind,
        first=first,
        last=last,
        hint="end what listens there (ss -ltnp shows it), or set port_first and port_last under [dashboard]",
    )


def _cannot_bind(bind: str, port: int, error: OSError) -> ConfigError:
    reason = error.strerror or str(error)
    hint = "set bind and port_first under [dashboard] to an address of this machine and a port above 1023"
    return ConfigError("the dashboard cannot listen there", bind=bind, port=port, reason=reason, hint=hint)


class _Server(ThreadedWSGIServer):
    """Werkzeug's threaded server; the TLS handshake runs on the connection's own thread, never on the listener's."""

    daemon_threads = True
    request_queue_size = BACKLOG

    def __init__(self, listener: socket.socket, app: Any, context: ssl.SSLContext | None) -> None:
        host, port = listener.getsockname()[:2]
        super().__init__(host, port, app, Handler, fd=listener.fileno())
        self.ssl_context = context
        self._connections: set[socket.socket] = set()
        self._connections_lock = threading.Lock()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, after its handshake where TLS is on."""
        if self.ssl_context is None:
            self._serve_one(request, client_address)
            return
        request.settimeout(HANDSHAKE_SECONDS)
        try:
            wrapped = self.ssl_context.wrap_socket(request, server_side=True)
        except (OSError, ssl.SSLError):  # not TLS, an older version, or gone: nothing to answer
            return
        wrapped.settimeout(None)
        with contextlib.closing(wrapped):
            self._serve_one(wrapped, client_address)

    def _serve_one(self, connection: Any, client_address: Any) -> None:
        with self._connections_lock:
            self._connections.add(connection)
        try:
            super().finish_request(connection, client_address)
        finally:
            with self._connections_lock:
                self._connections.discard(connection)

    def hang_up(self) -> None:
        """End every connection that is still open: a browser's socket would stay for ever."""
        with self._connections_lock:
            left = list(self._connections)
        for connection in left:
            with contextlib.suppress(OSError):  # it ended meanwhile
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Note a connection that broke, or an answer that failed in its middle; nothing else is touched."""
        broke = isinstance(sys.exception(), OSError)
        logger.log(
            logging.DEBUG if broke else logging.ERROR,
            "a connection broke" if broke else "an answer failed after it had begun",
            exc_info=True,
            extra={"client": client_address, "socket": request},
        )


class DashboardServer:
    """A built dashboard on a bound socket, with its watcher.

    Args:
        listener: from `bind_free_port`; closed by `stop`.
        context: TLS 1.3 context, None for plain HTTP.
    """

    def __init__(
        self, dashboard: Dashboard, listener: socket.socket, clock: Clock, *, context: ssl.SSLContext | None = None
    ) -> None:
        self._dashboard = dashboard
        self._listener = listener
        self._clock = clock
        self._context = context
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The address to open, without a one-time code."""
        host, port = self._listener.getsockname()[:2]
        own = "::1" if ":" in host else "127.0.0.1"
        host = own if ipaddress.ip_address(host).is_unspecified else host
        shown = f"[{host}]" if ":" in host else host
        return f"{'https' if self._context else 'http'}://{shown}:{port}/"

    @property
    def port(self) -> int:
        """The port really bound."""
        return int(self._listener.getsockname()[1])

    def one_time_url(self) -> str:
        """Return an address that gives the browser which opens it first a session."""
        return f"{self.url}?once={self._dashboard.links.issue()}"

    def start(self) -> None:
        """Read the reports, watch their folder and serve."""
        self._dashboard.watcher.start()
        self._dashboard.hub.push()
        self._server = _Server(self._listener, self._dashboard.app, self._context)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="dashboard", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Take no more requests, close the sockets and end the watcher; at most 2 s."""
        self._dashboard.watcher.stop()
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join(STOP_SECONDS)
            closing = threading.Thread(target=self._dashboard.socketio.server.eio.disconnect, daemon=True)
            closing.start()
            closing.join(GOODBYE_SECONDS)
            self._server.hang_up()
            self._server.server_close()
        self._listener.close()


def tls_context(certificate: str, key: str) -> ssl.SSLContext:
    """Return a server context of TLS 1.3 alone; ConfigError when the files are no certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "tls_cert and tls_key are no certificate and its key",
            tls_cert=certificate,
            tls_key=key,
            reason=str(error),
            hint="give PEM files that this user may read",
        ) from error
    return context
