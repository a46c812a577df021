"""Every error over HTTP is one problem document (RFC 9457), whoever raised it."""

from __future__ import annotations

import logging

import msgspec
from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from fabric.core.errors import FabricError, RangeError

logger = logging.getLogger(__name__)


def problem_response(body: dict[str, object]) -> Response:
    """Return a problem document as an answer with its own status."""
    status = body["status"]
    response = Response(msgspec.json.encode(body), status=str(status), mimetype="application/problem+json")
    if status in (429, 503):
        response.headers["Retry-After"] = "1"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def install_problem_handlers(app: Flask) -> None:
    """Answer FabricErrors, HTTP errors and bugs of any route of ``app`` as problem documents."""
    app.register_error_handler(FabricError, _fabric_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(500, _bug)


def _fabric_error(error: FabricError) -> Response:
    response = problem_response(error.problem())
    if isinstance(error, RangeError) and "size_bytes" in error.context:
        response.headers["Content-Range"] = f"bytes */{error.context['size_bytes']}"
    return response


def _http_error(error: HTTPException) -> Response:
    title = error.name
    body: dict[str, object] = {"type": "about:blank", "title": title, "status": error.code or 500}
    return problem_response({**body, "detail": error.description or title})


def _bug(error: Exception) -> Response:
    original = getattr(error, "original_exception", None) or error
    logger.error("a request failed", exc_info=original)
    title = "the fabric met a fault of its own"
    hint = "the log of the engine names it; nothing else stopped"
    body: dict[str, object] = {"type": "urn:fabric:problem:fault", "title": title, "status": 500}
    return problem_response({**body, "detail": f"{title}. {hint}", "hint": hint})
