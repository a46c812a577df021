"""The command line does the same with the engine running, with it stopped, and behind gunicorn."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.system.own_world import Done, World, engine, gunicorn, until

SITUATIONS = ("stopped", "running", "gunicorn")
OF_THE_MOMENT = (  # names of what differs between any two runs of the same thing
    "at made modified since seconds objects_per_second version etag token key_id sha256 head public_key pid engine url "
    "path bytes key_of object_key second_object_key note id created started unchanged resumed url_of records"
)


def steady(value: Any) -> Any:
    """Return a result without what differs from moment to moment; the names of all fields stay."""
    if isinstance(value, dict):
        return {name: "*" if name in OF_THE_MOMENT.split() else steady(item) for name, item in value.items()}
    return [steady(item) for item in value] if isinstance(value, list) else value


Look = Callable[[Any], Any]


def _stages(found: Any) -> Any:
    return [found["key"], [stage["stage"] for stage in found["stages"]], steady(found["facts"]["security"])]


def _names(found: Any) -> Any:
    return sorted(found)


STEPS: dict[str, tuple[list[str], Look]] = {
    "an object is put": (["put", "notes/one", "FILE", "--class", "sensitive"], steady),
    "a public object is put": (["put", "public/two", "FILE"], steady),
    "an object that exists is not put again": (["put", "notes/one", "FILE", "--if-absent"], steady),
    "a key with two dots is refused": (["put", "notes/../one", "FILE"], steady),
    "stores are scanned": (["scan", "--full"], steady),
    "a managed store is not scanned": (["scan", "disk"], steady),
    "an unknown store is not scanned": (["scan", "nowhere"], steady),
    "objects are listed": (["ls"], steady),
    "objects of a prefix are listed": (["ls", "notes/"], steady),
    "an object is got": (["get", "notes/one", "TARGET"], steady),
    "no byte is read in the mode look": (["get", "nas/2024/a.bin", "TARGET"], steady),
    "a missing object is not got": (["get", "notes/none", "TARGET"], steady),
    "an object is explained": (["explain", "notes/one"], _stages),
    "a missing object is not explained": (["explain", "notes/none"], steady),
    "every section has a status": (["status"], _names),
    "a plan is made": (["plan"], _names),
    "an unknown plan is not applied": (["apply", "0" * 64], steady),
    "replicas are verified": (["verify"], steady),
    "alerts are listed": (["alerts", "--history"], lambda found: isinstance(found, list)),
    "a missing alert is not acknowledged": (["alerts", "--acknowledge", "none"], steady),
    "the fabric is frozen": (["freeze", "audit", "--why", "a look"], steady),
    "a frozen fabric takes no object": (["put", "notes/three", "FILE"], steady),
    "a frozen fabric applies no plan": (["apply", "0" * 64], steady),
    "the freeze is lifted": (["freeze", "audit", "--lift"], steady),
    "a freeze that is not there is not lifted": (["freeze", "audit", "--lift"], steady),
    "a token is made": (["token", "add", "ann", "--role", "operator", "--class", "private"], steady),
    "a token's name is taken once": (["token", "add", "ann"], steady),
    "tokens are listed": (["token", "list"], steady),
    "a token is revoked": (["token", "revoke", "ann"], steady),
    "a key is exported": (["key", "export", "notes/one"], steady),
    "a public object has no key": (["key", "export", "public/two"], steady),
    "a backup is written": (["backup", "BACKUP"], steady),
    "configurations are listed": (["config", "log"], lambda found: [row["number"] for row in found]),
    "configurations are compared": (["config", "diff", "1", "1"], steady),
    "an unknown configuration is not gone back to": (["config", "rollback", "99"], steady),
    "a configuration is gone back to": (["config", "rollback", "1"], steady),
    "an object is erased": (["erase", "notes/one", "--yes"], steady),
    "an erased object is not got": (["get", "notes/one", "TARGET"], steady),
    "an erased object's key is gone": (["key", "export", "notes/one"], steady),
    "the audit chain holds": (["audit", "verify"], steady),
    "a store is tested": (["connect", "ADOPTED"], steady),
    "a settings file is checked": (["config", "check", "CONFIG"], steady),
    "a damaged command line is refused": (["plan", "--sideways"], steady),
}

Results = dict[str, tuple[int, Any, Done]]


def carried_out(world: World) -> Results:
    """Run every step in order; give its exit code, its steady result and what it said."""
    (world.folder / "one.txt").write_bytes(b"hello\n" * 1000)
    words = {
        "FILE": world.folder / "one.txt",
        "TARGET": world.folder / "target",
        "BACKUP": world.folder / "backup.tar",
        "ADOPTED": world.adopted,
        "CONFIG": world.config,
    }
    results: Results = {}
    for name, (arguments, look) in STEPS.items():
        done = world.quick("--json", *(str(words.get(word, word)) for word in arguments))
        found = done.json() if done.out else done.problem()
        seen = look(found) if done.code == 0 else (found["type"], found["title"], found["status"])
        results[name] = (done.code, _without(world, seen), done)
    return results


def _without(world: World, value: Any) -> Any:
    """Return a result without the folder's own name."""
    if isinstance(value, dict):
        return {name: _without(world, item) for name, item in value.items()}
    if isinstance(value, list):
        return [_without(world, item) for item in value]
    return value.replace(str(world.folder), "FOLDER") if isinstance(value, str) else value


def _started(situation: str, world: World, stack: ExitStack) -> None:
    if situation == "running":
        stack.enter_context(engine(world))
    elif situation == "gunicorn":
        stack.enter_context(gunicorn(world, workers=2))
    if situation != "stopped":  # the engine scans by itself at its start; two scans of a store do not go together
        assert until(lambda: '"scan"' in (world.data / "audit" / "audit.log").read_text())


@pytest.fixture(scope="module")
def transcripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """Carry out every step in each situation, on worlds that are alike."""
    found: dict[str, Results] = {}
    for situation in SITUATIONS:
        with ExitStack() as stack:
            world = World(Path(tmp_path_factory.mktemp(situation)))
            _started(situation, world, stack)
            found[situation] = carried_out(world)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_each_command_gives_the_same_in_all_three_situations(transcripts: dict[str, Results], step: str) -> None:
    stopped, running, behind = (transcripts[situation][step] for situation in SITUATIONS)
    assert running[:2] == stopped[:2], running[2]
    assert behind[:2] == stopped[:2], behind[2]


CODES = {
    "no byte is read in the mode look": 5,
    "an object that exists is not put again": 6,
    "a key with two dots is refused": 2,
    "a managed store is not scanned": 6,
    "an unknown store is not scanned": 4,
    "a missing object is not got": 4,
    "a missing object is not explained": 4,
    "an unknown plan is not applied": 4,
    "a missing alert is not acknowledged": 4,
    "a frozen fabric takes no object": 6,
    "a frozen fabric applies no plan": 6,
    "a freeze that is not there is not lifted": 6,
    "a token's name is taken once": 6,
    "a public object has no key": 4,
    "an unknown configuration is not gone back to": 4,
    "an erased object is not got": 4,
    "an erased object's key is gone": 4,
    "a damaged command line is refused": 2,
}


@pytest.mark.parametrize("step", STEPS)
def test_each_command_ends_with_the_exit_code_that_the_help_names(transcripts: dict[str, Results], step: str) -> None:
    code, _, done = transcripts["stopped"][step]
    assert code == CODES.get(step, 0), done
