#!/usr/bin/env python3
"""The dashboard by itself: shows the reports in the data folder and passes what changes something to the engine.

Run as a script it displays only. Under gunicorn (`gunicorn -w 4 -b 0.0.0.0:8000 --worker-class eventlet
web_dashboard:app`) `gunicorn.conf.py` beside it also starts the whole fabric in the worker that gets the lease.
"""

from __future__ import annotations

import sys

from run_complete_system import ensure_packages

if (code := ensure_packages([])) is not None:
    sys.exit(code)

from fabric.app.display import Display
from fabric.demos.sample import Sample

app = Display(sample=Sample())  # WSGI; starts nothing until its first request or `app.start()`

if __name__ == "__main__":
    sys.exit(app.run(sys.argv[1:]))
