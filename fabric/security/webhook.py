"""Delivers what is owed about alerts: each message at least once, in order, grouped, with back-off.

One thread, one request at a time, so that after failures a single trial decides whether the receiver is back.
"""

from __future__ import annotations

import http.client
import json
import logging
import threading
from collections.abc import Callable, Iterable
from itertools import groupby
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from fabric.catalog.alerts import Owed
from fabric.core.clock import Clock
from fabric.core.errors import ConfigError, UnavailableError

logger = logging.getLogger(__name__)

BATCH_MOST = 200  # messages looked at together
TIMEOUT_SECONDS = 5.0
IDLE_SECONDS = 0.5
BACKOFF_FIRST_SECONDS, BACKOFF_MOST_SECONDS = 1.0, 300.0
OPEN_AFTER = 5  # failures in a row after which the report calls the receiver away

Post = Callable[[str, bytes], None]


class Outbox(Protocol):
    """What is owed (`catalog/alerts.py`)."""

    def owed(self, limit: int) -> list[Owed]: ...
    def delivered(self, numbers: Iterable[int]) -> None: ...


def post_json(url: str, body: bytes) -> None:
    """Post ``body``; UnavailableError where the receiver does not answer with 2xx within `TIMEOUT_SECONDS`."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_SECONDS)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, body, {"Content-Type": "application/json", "User-Agent": "fabric"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError("the webhook does not answer", host=parts.hostname, reason=str(error)) from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise UnavailableError("the webhook refuses alerts", host=parts.hostname, status=status)


class Webhook:
    """Posts every owed message to one URL."""

    def __init__(self, url: str, outbox: Outbox, clock: Clock, post: Post = post_json) -> None:
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ConfigError(
                "the webhook is no http(s) URL", path="security.alert_webhook", hint="write https://HOST/PATH"
            )
        self._url, self._outbox, self._clock, self._post = url, outbox, clock, post
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failures = 0
        self._sent = 0

    def start(self) -> None:
        """Begin to deliver, on a thread of its own."""
        self._thread = threading.Thread(target=self._run, name="alert-webhook", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop within one second; what is owed stays owed."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def state(self) -> dict[str, Any]:
        """Return how delivery goes."""
        return {
            "host": urlsplit(self._url).hostname,
            "state": "away" if self._failures >= OPEN_AFTER else "ok",
            "failures": self._failures,
            "sent": self._sent,
        }

    def deliver(self) -> float:
        """Deliver what is owed; return the seconds to wait before the next look."""
        owed = self._outbox.owed(BATCH_MOST)
        try:
            for (event, rule), group in groupby(owed, key=lambda one: (one.event, one.alert.rule)):
                together = list(group)
                self._post(self._url, _body(event, rule, together))
                self._outbox.delivered([one.number for one in together])
                self._failures, self._sent = 0, self._sent + len(together)
        except UnavailableError as error:
            self._failures += 1
            logger.warning("an alert could not be delivered", extra={"reason": str(error), "failures": self._failures})
            return min(BACKOFF_MOST_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** (self._failures - 1))
        return IDLE_SECONDS

    def _run(self) -> None:
        wait = 0.0
        while not self._clock.wait(self._stopping, wait):
            wait = self.deliver()


def webhook_for(setting: str, outbox: Outbox, clock: Clock, resolve: Callable[[str], str]) -> Webhook | None:
    """Return the webhook that ``security.alert_webhook`` names, None for "".

    Args:
        setting: a URL, or a secret reference to one (the URL of a chat service is itself a secret).
        resolve: reads secret references (`storage.secrets.resolve`).
    """
    if not setting:
        return None
    is_url = urlsplit(setting).scheme in ("http", "https")
    return Webhook(setting if is_url else resolve(setting).strip(), outbox, clock)


def _body(event: str, rule: str, group: list[Owed]) -> bytes:
    alerts = [msgspec.to_builtins(one.alert) for one in group]
    message = {"format": 1, "event": event, "rule": rule, "messages": [one.number for one in group], "alerts": alerts}
    return json.dumps(message, separators=(",", ":")).encode()
