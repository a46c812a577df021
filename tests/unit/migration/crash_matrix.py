"""The crash matrix: SIGKILL of a separate process at every named point and at random times, on eight pairs of stores.

After each kill every object must have a copy that an independent reader proves by its SHA-256. Another process then
starts over what was left (a part of these starts is killed too, at a random time), brings every job to its end, and
lets every grace end. At the end nothing is corrupt, stuck, unlisted, unfinished or deleted twice. Prints one line of
JSON.

    python tests/unit/migration/crash_matrix.py [--seed 1] [--random 200] [--pairs local-local,...] [--runs-most 5000]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))
sys.path.insert(0, str(Path(__file__).parents[3]))

import servers
from crash_pairs import PAIRS, Pair, packed, settings_of
from crash_reader import Reader, double_deletes, heads_in, raw_stores
from crash_scenarios import OBJECTS, PART, ROOT, SCENARIOS, SMALL_PART, data_of
from foreign_client import streaming_aead

from fabric.core.clock import SystemClock
from fabric.migration.points import POINTS
from fabric.security.keys import KeyTable
from fabric.security.vault import Vault

HERE = Path(__file__).parent
SECOND_KILLS = 0.2  # of the recoveries
OUTSIDE = 0.05  # a random time may lie this share after the usual end
KEPT_MOST = 20  # folders of runs with a violation, for whoever looks
SIGKILLED = -9


@dataclass(frozen=True, slots=True)
class Case:
    """One kill: at the n-th time that a point is reached, or at a share of the usual time."""

    pair: str
    scenario: str
    point: str = ""  # POINT#N
    share: float = -1.0
    again: bool = True  # whether the start after it may be killed too

    @property
    def kind(self) -> str:
        return "named" if self.point else "random"


@dataclass(slots=True)
class Tally:
    """What all runs together showed."""

    runs: Counter[str] = field(default_factory=Counter)  # PAIR KIND
    kills: Counter[str] = field(default_factory=Counter)  # of each point, and "random", "recovery"
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)  # pair and point: times passed or died at
    ends: Counter[str] = field(default_factory=Counter)  # states of jobs
    not_killed: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    recovery_seconds_most: float = 0.0
    pairs_done: list[str] = field(default_factory=list)


class Zygote:
    """The process whose children are killed."""

    def __init__(self) -> None:
        env = {**os.environ, "PYTHONPATH": str(HERE.parents[2]), "OPENBLAS_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "crash_child.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )

    def ask(self, **given: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(given).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the parent of the children has ended"
        told: dict[str, Any] = json.loads(answer)
        return told

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


class Matrix:
    """Carries out cases over servers that stay up; each run has a folder and prefixes of its own."""

    def __init__(self, folder: Path, running: dict[str, servers.Server], seed: int) -> None:
        self._folder, self._running = folder, running
        self.seed, self._dice = seed, random.Random(seed)
        self._zygote = Zygote()
        self._number = 0
        self._found: dict[str, dict[str, Any]] = {}
        self._traces: dict[tuple[str, str], dict[str, Any]] = {}
        self.tally = Tally()
        self._expected: dict[int, dict[str, str]] = {}
        self._make_keys()

    def _make_keys(self) -> None:
        streaming_aead.register()
        vault = Vault(KeyTable((self._folder / "keys1", self._folder / "keys2"), ROOT, SystemClock()))
        sealed = [key for key, classification in OBJECTS.items() if classification != "public"]
        for key in sealed:
            vault.key_for(key, OBJECTS[key])
        self._exported = {key: vault.keys.export_key(key) for key in sealed}

    def expected(self, part_bytes: int) -> dict[str, str]:
        """Return the SHA-256 of what is written under each key."""
        if part_bytes not in self._expected:
            made = {key: hashlib.sha256(data_of(key, part_bytes)).hexdigest() for key in OBJECTS}
            self._expected[part_bytes] = made
        return self._expected[part_bytes]

    def close(self) -> None:
        self._zygote.close()

    # ---------------------------------------------------------------- cases

    def trace(self, pair: str, scenario: str) -> dict[str, Any]:
        """Run a scenario without a kill, once; it must hold every promise too."""
        if (pair, scenario) not in self._traces:
            self._traces[pair, scenario] = self._carry(Case(pair, scenario, "none"))
        return self._traces[pair, scenario]

    def named(self, pair: str, scenario: str, *, known: set[str]) -> Iterator[Case]:
        """Yield a case for each part; for the first, a middle and the last time that any other point is reached.

        Of points that are in ``known`` already, only one time.
        """
        for point, times in Counter(self.trace(pair, scenario)["points"]).items():
            whole = point.startswith("part.") and point not in known
            numbers = set(range(1, times + 1)) if whole else {1, (times + 1) // 2, times}
            if point in known:
                numbers = {self._dice.choice(sorted(numbers))}
            yield from (Case(pair, scenario, f"{point}#{number}") for number in sorted(numbers))
            known.add(point)

    def at_random(self, pair: str, many: int) -> Iterator[Case]:
        """Yield kills at random times of scenarios in turn."""
        names = [name for name, scenario in SCENARIOS.items() if pair in scenario.pairs]
        for number in range(many):
            yield Case(pair, names[number % len(names)], share=self._dice.uniform(0.0, 1.0 + OUTSIDE))

    # ---------------------------------------------------------------- one run

    def run(self, case: Case) -> list[str]:
        """Carry out one case; return what is wrong."""
        return self.told(case)[1]

    def told(self, case: Case) -> tuple[dict[str, Any], list[str]]:
        """Carry out one case; return what its processes told, and what is wrong."""
        before = len(self.tally.violations)
        return self._carry(case), self.tally.violations[before:]

    def _carry(self, case: Case) -> dict[str, Any]:
        self._number += 1
        run = _Run(self, case, self._folder / f"run-{self._number}", f"run-{self._number}")
        told = run.carry()
        if run.wrong:
            kept = len(self.tally.violations) < KEPT_MOST
            self.tally.violations += [f"{case} run {self._number}: {what}" for what in run.wrong]
            sys.stderr.write("\n".join(["", str(case), *run.wrong, str(run.folder) if kept else "", ""]))
        if not run.wrong or len(self.tally.violations) > KEPT_MOST:
            run.wipe()
        return told


class _Run:
    """One kill and what follows it."""

    def __init__(self, matrix: Matrix, case: Case, folder: Path, prefix: str) -> None:
        self._matrix, self._case, self.folder, self._prefix = matrix, case, folder, prefix
        self._pair: Pair = PAIRS[case.pair]
        self.wrong: list[str] = []
        for name in ("keys1", "keys2"):
            shutil.copytree(matrix._folder / name, folder / name)
        settings_of(self._pair, folder, prefix, matrix._running)  # puts the credentials where clients look
        for name, kind in self._pair.kinds.items():
            if kind == "local":
                (folder / name).mkdir()
        self._stores = raw_stores(self._pair, folder, prefix, matrix._running)
        target = self._pair.kinds[self._pair.target[0]]
        real_s3 = target == "s3" and matrix._running["s3"].kind == "seaweedfs" and not self._pair.in_place
        self._part_bytes = PART if real_s3 else SMALL_PART
        every = matrix.expected(self._part_bytes)
        expected = {key: every[key] for key in SCENARIOS[case.scenario].keys}
        self._reader = Reader(self._stores, expected, matrix._exported)

    def carry(self) -> dict[str, Any]:
        """Kill, look, start again, look; return what the killed process told."""
        told = self._killed()
        heads = heads_in(self.folder)
        self.wrong += self._reader.without_copy(heads)
        self._count(told)
        told["again"] = self._recovered()
        heads = heads_in(self.folder)
        self.wrong += self._reader.without_copy(heads)
        self.wrong += self._reader.corrupt(heads)
        self.wrong += self._reader.strays(heads)
        self.wrong += [f"deleted twice: {which}" for which in double_deletes(self.folder / "deletes.log")]
        return told

    def _killed(self) -> dict[str, Any]:
        case, tally = self._case, self._matrix.tally
        after = None
        if case.share >= 0:
            after = case.share * self._matrix.trace(case.pair, case.scenario)["seconds"]
        told = self._ask("act", kill=case.point, after=after)
        if told["error"]:
            self.wrong.append(f"the first process failed: {told['error']}")
        if told["code"] == SIGKILLED:
            tally.kills["random" if after is not None else case.point.partition("#")[0]] += 1
        elif case.point != "none":
            tally.not_killed[case.point.partition("#")[0] or "random"] += 1
        return told

    def _recovered(self) -> list[str]:
        """Start again until everything has ended; return the points that the last start reached."""
        dice, tally = self._matrix._dice, self._matrix.tally
        if self._case.again and self._case.point != "none" and dice.random() < SECOND_KILLS:
            told = self._ask("recover", kill="", after=dice.uniform(0.0, 0.3))
            tally.kills["recovery"] += told["code"] == SIGKILLED
            self.wrong += self._reader.without_copy(heads_in(self.folder))
        told = self._ask("recover", kill="", after=None)
        if told["code"] != 0:
            self.wrong.append(f"the recovery failed ({told['code']}): {told['error']}")
        tally.recovery_seconds_most = max(tally.recovery_seconds_most, told["seconds"])
        keys = Counter(key for key, _, _ in told["jobs"])
        tally.ends.update(state for _, state, _ in told["jobs"])
        self.wrong += [f"{key} was given {many} jobs: {told['jobs']}" for key, many in keys.items() if many > 1]
        points: list[str] = told["points"]
        return points

    def _ask(self, do: str, *, kill: str, after: float | None) -> dict[str, Any]:
        matrix, pair = self._matrix, self._case.pair
        given = {"pair": pair, "scenario": self._case.scenario, "servers": packed(matrix._running)}
        given |= {"part_bytes": self._part_bytes}
        if pair not in matrix._found:
            probing = {**given, "scenario": "move", "folder": str(self.folder), "prefix": f"probe-{pair}"}
            told = matrix._zygote.ask(**probing, do="probe", found={}, kill="", after=None)
            assert told["code"] == 0, told["error"]
            matrix._found[pair] = told["found"]
            (self.folder / "catalog.db").unlink()
        given |= {"folder": str(self.folder), "prefix": self._prefix, "found": matrix._found[pair]}
        return matrix._zygote.ask(**given, do=do, kill=kill, after=after)

    def _count(self, told: dict[str, Any]) -> None:
        tally, case = self._matrix.tally, self._case
        if case.point != "none" and told["code"] == SIGKILLED:
            tally.runs[f"{case.pair} {case.kind}"] += 1
        tally.reached.update((case.pair, point) for point in told["points"])

    def wipe(self) -> None:
        for store in self._stores.values():
            store.wipe()
        shutil.rmtree(self.folder, ignore_errors=True)


# -------------------------------------------------------------------- the whole


def needed(pairs: Iterable[str]) -> set[str]:
    return {kind for pair in pairs for kind in PAIRS[pair].kinds.values()} - {"local"}


@contextmanager
def started(kinds: set[str], *, quick: bool = False) -> Iterator[dict[str, servers.Server]]:
    """Start the servers; they stay up for all runs."""
    makers = {"s3": servers.moto if quick else _roomy, "azure": servers.azurite, "gcs": servers.fake_gcs}
    with ExitStack() as stack:
        yield {kind: stack.enter_context(makers[kind]()) for kind in sorted(kinds)}


def _roomy() -> AbstractContextManager[servers.Server]:
    return servers.seaweedfs(volumes=200)


def whole(matrix: Matrix, pairs: list[str], many: int, most: int) -> None:
    """Carry out every named case and ``many`` random ones, spread over the pairs."""
    for pair in pairs:
        begun, known = time.monotonic(), set[str]()
        cases = [
            case
            for scenario in SCENARIOS
            if pair in SCENARIOS[scenario].pairs
            for case in matrix.named(pair, scenario, known=known)
        ]
        cases += matrix.at_random(pair, -(-many // len(pairs)))
        random.Random(matrix.seed).shuffle(cases)  # so that a run ended early has tried a bit of everything
        for number, case in enumerate(cases[:most]):
            matrix.run(case)
            if number % 25 == 0:
                sys.stderr.write(f"\r{pair}: {number + 1} of {len(cases)}, {time.monotonic() - begun:.0f} s  ")
        sys.stderr.write(f"\r{pair}: {len(cases)} runs, {time.monotonic() - begun:.0f} s          \n")
        matrix.tally.pairs_done.append(pair)


def summary(tally: Tally, seed: int, seconds: float) -> dict[str, Any]:
    """Return the figures as they are printed."""
    by_pair = {pair: {} for pair in PAIRS}  # type: dict[str, dict[str, int]]
    for name, many in tally.runs.items():
        pair, kind = name.split()
        by_pair[pair][kind] = many
    return {
        "bench": "crash_matrix",
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "system": platform.platform()},
        "seed": seed,
        "seconds": round(seconds),
        "runs": sum(tally.runs.values()),
        "pairs_done": tally.pairs_done,
        "runs_by_pair": {pair: found for pair, found in by_pair.items() if found},
        "kills_by_point": dict(sorted(tally.kills.items())),
        "points_never_reached": sorted(set(POINTS) - {point for _, point in tally.reached}),
        "points_never_reached_by_pair": {
            pair: sorted(set(POINTS) - {point for which, point in tally.reached if which == pair})
            for pair, found in by_pair.items()
            if found
        },
        "points_unnamed": sorted({point for _, point in tally.reached} - set(POINTS)),
        "not_killed": dict(tally.not_killed),
        "recovery_seconds_most": round(tally.recovery_seconds_most, 1),
        "jobs_ended": dict(tally.ends),
        "violations": len(tally.violations),
        "first_violations": tally.violations[:10],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", type=int, default=700, help="kills at random times, over all pairs")
    parser.add_argument("--pairs", default=",".join(PAIRS))
    parser.add_argument("--runs-most", type=int, default=5000, help="of each pair")
    parser.add_argument("--folder", type=Path, default=None, help="where the runs' folders lie; memory where there is")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # servers end with this process
    pairs = given.pairs.split(",")
    base = given.folder or (Path("/dev/shm") if Path("/dev/shm").is_dir() else None)
    folder, begun = Path(tempfile.mkdtemp(prefix="crash-", dir=base)), time.monotonic()
    with started(needed(pairs)) as running:
        matrix = Matrix(folder, running, given.seed)
        try:
            whole(matrix, pairs, given.random, given.runs_most)
        except SystemExit as early:  # what was done so far is told
            sys.stderr.write(f"{early}\n")
        finally:
            matrix.close()
    if not matrix.tally.violations:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(summary(matrix.tally, given.seed, time.monotonic() - begun)))
    sys.exit(bool(matrix.tally.violations))


if __name__ == "__main__":
    main()
