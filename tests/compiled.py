"""Compiles the kernels once, before the workers of a run that goes side by side would each do it for themselves.

What is compiled is kept beside the modules, so this costs half a minute of one core after a clone and little later.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.timemachine_world import access_log

OBJECTS = 1_100  # a log of more than 24 MB: smaller ones are read by the plain functions


def main() -> int:
    """Replay a made-up log by every policy."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        log.write_text(access_log(OBJECTS))
        command = [sys.executable, "-m", "fabric", "replay", "--accesses", str(log), "--policies", "all", "--json"]
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
