"""One structured line per state change: time, level, logger, a constant sentence, then figures."""

from __future__ import annotations

import json
import logging
import sys

from fabric.core.clock import iso

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class LineFormatter(logging.Formatter):
    """``2026-01-01T00:00:00.000Z INFO fabric.migration job completed job=… bytes=…``."""

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        facts = "".join(f" {name}={_word(value)}" for name, value in extra.items())
        line = f"{iso(record.created)} {record.levelname} {record.name} {record.getMessage()}{facts}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _word(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if text and not any(c in text for c in ' "\n=') else json.dumps(text)


def start_logging(level: str = "INFO") -> None:
    """Send the fabric's log to standard error as structured lines; safe to call again."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("werkzeug", "engineio", "socketio", "botocore", "urllib3", "watchdog"):
        logging.getLogger(noisy).setLevel("WARNING")
    logging.getLogger("stamina").setLevel("ERROR")  # a retry is counted; the failure is logged where it is handled
