"""A FabricError as an HTTP answer: problem+json with the error's own status."""

from __future__ import annotations

import json

from flask import Flask, Response

from fabric.core.errors import BusyError, FabricError, RangeError

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 1  # what a client is told to wait before it repeats


def problem_response(error: FabricError) -> Response:
    """Return the RFC 9457 document of ``error``; busy and unavailable ones say when to try again."""
    response = Response(json.dumps(error.problem()), status=error.http_status, mimetype=MEDIA_TYPE)
    if error.retryable or isinstance(error, BusyError):
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    if isinstance(error, RangeError) and "size_bytes" in error.context:
        response.headers["Content-Range"] = f"bytes */{error.context['size_bytes']}"
    if error.http_status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def install_problems(app: Flask) -> None:
    """Make ``app`` answer every FabricError that a handler raises with its problem document."""
    app.register_error_handler(FabricError, problem_response)
