"""The process that is killed: a parent that has imported everything forks one child for each run.

It reads one request as a line of JSON and answers with one. A child says each point that it reaches before it goes
on or dies there; it is killed by SIGKILL, by itself at a named point or by the parent after some seconds.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[3]))

import msgspec
from crash_pairs import PAIRS, settings_of, unpacked
from crash_scenarios import GRACE_SECONDS, CrashWorld

from fabric.core.failing import Carried
from fabric.storage.probe import Findings
from fabric.storage.store import Capabilities

CHILD_SECONDS = 150.0  # a child that lives longer hangs


def warm() -> None:
    """Import what drivers import at their first request, so that no child does."""
    import azure.storage.blob
    import botocore.loaders
    import botocore.session
    import obstore.store
    import urllib3

    assert azure.storage.blob, obstore.store
    assert urllib3
    session = botocore.session.Session()
    session.create_client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b").close()
    known = session.get_component("data_loader")
    botocore.session.create_loader = lambda *_: known  # type: ignore[attr-defined]  # what it has read, all children have


class Child:
    """The body of one child."""

    def __init__(self, given: dict[str, Any], pipe: int) -> None:
        self._given, self._pipe = given, pipe
        self._point, _, number = given["kill"].partition("#")
        self._left = int(number or 1)

    def say(self, *words: object) -> None:
        os.write(self._pipe, json.dumps(words).encode() + b"\n")

    def reached(self, name: str) -> None:
        self.say("point", name)
        if name == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def run(self) -> None:
        given = self._given
        pair, folder = PAIRS[given["pair"]], Path(given["folder"])
        stores = settings_of(pair, folder, given["prefix"], unpacked(given["servers"]))
        world = CrashWorld(
            folder, pair, stores, given["scenario"], part_bytes=given["part_bytes"], reached=self.reached
        )
        self._attach(world)
        if given["do"] == "probe":
            self.say("found", {name: msgspec.to_builtins(world.store(name).capabilities) for name in stores})
            return
        if given["do"] == "act":
            world.write_all()
        self.say("go")
        world.migration.start()
        if given["do"] == "act":
            world.scenario.act(world)
        else:
            self._recover(world)
        world.close()
        world.fleet.close()

    def _attach(self, world: CrashWorld) -> None:
        """Attach the stores as a start does; what a probe found is found once, not in every run."""
        for name, said in self._given["found"].items():
            member = world.fleet.member(name)
            member.driver.capabilities = msgspec.convert(said, Capabilities)
            world.fleet._findings[name] = Findings(name, member.driver.capabilities, {})
        world.fleet.start()

    def _recover(self, world: CrashWorld) -> None:
        """Bring everything to its end, then let every grace end too."""
        world.go_on(lambda: True)
        world.clock.shift = 2 * GRACE_SECONDS  # type: ignore[attr-defined]
        world.go_on(world.tidied)
        world.jobs.verify_journal()
        self.say("jobs", world.told())


def forked(given: dict[str, Any]) -> dict[str, Any]:
    """Run one child and say how it ended, which points it reached, and what it told."""
    near, far = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(near)
        os._exit(_child(given, far))
    os.close(far)
    try:
        return _watched(pid, near, given["after"])
    finally:
        os.close(near)


def _child(given: dict[str, Any], pipe: int) -> int:
    child = Child(given, pipe)
    failed: list[BaseException] = []
    with Carried(failed.append):
        child.run()
    for error in failed:
        child.say("error", "".join(traceback.format_exception(error)))
    return len(failed)


def _watched(pid: int, pipe: int, after: float | None) -> dict[str, Any]:
    told: dict[str, Any] = {"points": [], "jobs": [], "error": ""}
    begun, went, rest, end = time.monotonic(), 0.0, b"", time.monotonic() + CHILD_SECONDS
    while True:
        at = end if after is None or not went else min(end, went + after)
        if not select.select([pipe], [], [], max(0.0, at - time.monotonic()))[0]:
            os.kill(pid, signal.SIGKILL)
            at, after = end, None
        if not (piece := os.read(pipe, 1 << 16)):
            break
        *lines, rest = (rest + piece).split(b"\n")
        for word, *more in map(json.loads, lines):
            if word == "go":
                went = time.monotonic()
            elif word == "point":
                told["points"].append(more[0])
            else:
                told[word] = more[0]
    _, status = os.waitpid(pid, 0)
    ended = time.monotonic()
    return told | {
        "code": os.waitstatus_to_exitcode(status),
        "seconds": ended - (went or begun),
        "whole": ended - begun,
    }


def main() -> None:
    warm()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(forked(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
