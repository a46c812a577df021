#!/usr/bin/env python3
"""Runs component 5 alone, on real bytes in a scratch folder, and leaves its report in data/exports/."""

from __future__ import annotations

import sys

from run_complete_system import ensure_packages

if __name__ == "__main__":
    if (code := ensure_packages([])) is not None:
        sys.exit(code)
    from fabric.demos.tasks import run_task

    sys.exit(run_task(5, sys.argv[1:]))
