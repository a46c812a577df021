#!/usr/bin/env python3
"""Starts the whole fabric: six components, the data plane and the dashboard. Standard library only at its top, so that
it can say what is missing and, when told to, install it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NEEDED = {  # module -> package
    "flask": "flask",
    "flask_socketio": "flask-socketio",
    "simple_websocket": "simple-websocket",
    "sklearn": "scikit-learn",
    "numpy": "numpy",
    "watchdog": "watchdog",
    "sqlalchemy": "sqlalchemy",
    "msgspec": "msgspec",
    "click": "click",
    "rich": "rich",
    "cryptography": "cryptography",
    "stamina": "stamina",
    "pyarrow": "pyarrow",
    "scipy": "scipy",
    "obstore": "obstore",
    "botocore": "botocore",
    "azure.storage.blob": "azure-storage-blob",
    "google.auth": "google-auth",
    "urllib3": "urllib3",
}


def missing_packages() -> list[str]:
    """Return the run-time packages that cannot be found, without importing any."""
    return sorted(package for module, package in NEEDED.items() if not _found(module))


def _found(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # one of the packages that it lies in
        return False


def set_up(arguments: list[str]) -> int:
    """Make ``.venv`` beside this file, install the tested versions into it and start again inside it."""
    python = HERE / ".venv" / "bin" / "python"
    if not python.exists():
        subprocess.check_call([sys.executable, "-m", "venv", str(HERE / ".venv")])
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    locks = ["-r", str(HERE / "requirements.txt"), "-c", str(HERE / "constraints.txt")]
    if subprocess.call([*install, *locks]) != 0:
        print("The packages could not be installed; the lines above say why.", file=sys.stderr)
        return 1
    os.execv(python, [str(python), str(HERE / "run_complete_system.py"), *arguments])


def ensure_packages(arguments: list[str]) -> int | None:
    """Return None when everything is here; otherwise an exit code, or start again inside ``.venv``."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this very check is for older ones
        found = ".".join(map(str, sys.version_info[:3]))
        print(
            f"Python 3.11 or newer is needed; this is {found}. Install one and run it with this file.", file=sys.stderr
        )
        return 2
    wanted = "--setup" in arguments
    arguments = [argument for argument in arguments if argument != "--setup"]
    missing = missing_packages()
    if not missing:
        return None
    print("These packages are missing: " + ", ".join(missing), file=sys.stderr)
    if not wanted and sys.stdin is not None and sys.stdin.isatty():
        wanted = input("Install them into .venv beside this file and start there? [y/N] ").strip().lower() in (
            "y",
            "yes",
        )
    if wanted:
        return set_up(arguments)
    print("Install them with:  python3 run_complete_system.py --setup", file=sys.stderr)
    return 2


def main(arguments: list[str]) -> int:
    """Run the fabric until stopped; return the exit code (0 stopped, 2 wrong input, 3 in use or other world)."""
    code = ensure_packages(arguments)
    if code is not None:
        return code
    from fabric.demos.complete import run

    return run([argument for argument in arguments if argument != "--setup"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
