"""Moves against rclone: local to local on a disk and in memory, local to S3, S3 to S3; the same bytes in one run.

The fabric validates, hashes every byte on both sides, writes and flushes, proves each copy, tests access, switches
heads and journals each step, flushed. ``rclone copy`` writes and compares what it hashed; ``rclone check --download``
after it is what reads every byte back. On a disk the target is flushed inside rclone's time too.
Rounds alternate, and who begins them does: after ``rclone check`` a server has given its memory back, and whoever comes
next pays for that. Figures are medians. Prints one JSON line; ratios above 1: the fabric is faster (of processor time:
below 1 is less). ``many``: 100,000 small objects, the memory, and the shares of the processor time and of the run that
the catalog takes (rows, heads, journal, flushes) and that the journal takes of it (rows, chained, appended). ``huge``:
five objects of 1 GiB at once beside one alone (above 0.9: company costs little), and beside one that rclone copies.
``sizes``: MB and objects a second on a disk, for objects of 4 KiB, 1 MiB and 1 GiB, each beside rclone.

Items: 31, 116

    python tests/bench/bench_migration.py [--quick] [--rounds 5] [--folder DIR]
        [--pairs many,disk,mem,local_s3,s3_s3,huge,sizes]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

pairs = importlib.import_module("migration_pairs")
hashing = importlib.import_module("migration_hashing")
scale = importlib.import_module("migration_scale")
servers = pairs.servers

WHOLE = pairs.Set(small=1000, large=20, huge_bytes=pairs.GIB)
QUICK_SHARE, S3_SHARE = 0.1, 0.5
MEMORY = Path("/dev/shm")
VOLUME_MB, VOLUMES = 1024, 40  # what is deleted stays in them: room for ten rounds
NAMES = ("many", "disk", "mem", "local_s3", "s3_s3", "huge", "sizes")  # many first: its memory is measured
MANY, HUGE_BYTES = 100_000, pairs.GIB
MANY_QUICK, HUGE_QUICK_BYTES = 3_000, 128 * pairs.MIB
SIZES = {
    "4_kib": pairs.Set(2000, 0, 0, small_bytes=4 * pairs.KIB),
    "1_mib": pairs.Set(500, 0, 0, small_bytes=pairs.MIB),
    "1_gib": pairs.Set(0, 0, pairs.GIB),
}
READ_BACK = {"verify": "read_back"}
BESIDE = "rclone beside "  # the fabric with one proof, in the same world

Figures = dict[str, float]


@contextmanager
def opened(name: str, contents: Any, folder: Path, settings: dict[str, Any]) -> Iterator[Any]:
    """Give one pair with its servers running."""
    with ExitStack() as stack:
        base = MEMORY if name == "mem" else folder
        at = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=base, prefix="migration-")))
        if name.startswith("s3"):
            source = pairs.bucket_side(stack.enter_context(seaweedfs()), "ra")
        else:
            source = pairs.folder_side(at / "a", flush=name == "disk")
        if name.endswith("s3"):
            target = pairs.bucket_side(stack.enter_context(seaweedfs()), "rb")
        else:
            target = pairs.folder_side(at / "b", flush=name == "disk")
        pair = pairs.Pair(at, source, target, contents, settings)
        stack.callback(pair.close)
        yield pair


def seaweedfs() -> Any:
    return servers.seaweedfs(volume_mb=VOLUME_MB, volumes=VOLUMES)


def rounds(pair: Any, program: str | None, count: int) -> tuple[Figures, Figures]:
    """Run ``count`` alternating rounds; return both sides' medians."""
    ours: list[Figures] = []
    peers: list[Figures] = []
    for act in scale.alternating(lambda: ours.append(pair.fabric()), _peer_of(pair, program, peers.append), count):
        act()
    return medians(ours), medians(peers)


def _peer_of(pair: Any, program: str | None, found: Callable[[Figures], None]) -> Callable[[], None]:
    return (lambda: None) if program is None else (lambda: found(pair.rclone(program)))


def medians(found: list[Figures]) -> Figures:
    return {name: statistics.median(each[name] for each in found) for name in found[0]} if found else {}


def local(given: argparse.Namespace, name: str, share: float, program: str | None) -> dict[str, Any]:
    with opened(name, WHOLE.scaled(share), given.folder, READ_BACK) as pair:
        ours, peer = rounds(pair, program, given.rounds)
        two_passes = hashing.seconds_of_two_passes(pair.contents.total_bytes)
    return {"fabric": ours, "rclone": peer, "two_sha256_passes_over_all_cores_seconds": two_passes}


def remote(given: argparse.Namespace, name: str, share: float, program: str | None) -> dict[str, Any]:
    """Measure once with the server's own SHA-256 as proof and once with every byte read back."""
    found: dict[str, Any] = {}
    for proof in ("cheapest", "read_back"):
        with opened(name, WHOLE.scaled(share * S3_SHARE), given.folder, {"verify": proof}) as pair:
            found[proof], found[f"{BESIDE}{proof}"] = rounds(pair, program, given.rounds)
    return found


def many(given: argparse.Namespace) -> Figures:
    """Move very many small objects between two folders of the disk."""
    with opened("disk", pairs.Set(0, 0, 0), given.folder, READ_BACK) as pair:
        return dict(scale.small_moves(pair, MANY_QUICK if given.quick else MANY))


def huge(given: argparse.Namespace, program: str | None) -> Figures:
    """Move one huge object alone and five at once between two folders of the disk."""
    size = HUGE_QUICK_BYTES if given.quick else HUGE_BYTES
    return dict(scale.huge_moves(lambda contents: opened("disk", contents, given.folder, READ_BACK), size, program))


def sizes(given: argparse.Namespace, share: float, program: str | None) -> Figures:
    """Move objects of one size at a time between two folders of the disk."""
    sets = {name: contents.scaled(share) for name, contents in SIZES.items()}
    one = partial(opened, "disk", folder=given.folder, settings=READ_BACK)
    return dict(scale.moves_by_size(one, sets, program, given.rounds))


def measured_of(given: argparse.Namespace, name: str, share: float, program: str | None) -> dict[str, Any]:
    if name == "many":
        return many(given)
    if name == "huge":
        return huge(given, program)
    if name == "sizes":
        return sizes(given, share, program)
    return (remote if name in ("local_s3", "s3_s3") else local)(given, name, share, program)


def ratios_of(found: dict[str, dict[str, Any]]) -> Figures:
    """Compute what was measured on both sides."""
    by_name: dict[str, Callable[[], float]] = {
        "local_local_disk_vs_rclone_sync": lambda: _times(found["disk"], "fabric", "copy_sync"),
        "local_local_mem_vs_rclone": lambda: _times(found["mem"], "fabric", "copy"),
        "local_local_vs_rclone_check": lambda: min(
            _times(found["disk"], "fabric", "copy_sync_check"), _times(found["mem"], "fabric", "copy_check")
        ),
        "local_s3_vs_rclone": lambda: _times(found["local_s3"], "cheapest", "copy", BESIDE),
        "local_s3_vs_rclone_check": lambda: _times(found["local_s3"], "read_back", "copy_check", BESIDE),
        "s3_s3_vs_rclone": lambda: _times(found["s3_s3"], "cheapest", "copy", BESIDE),
        "s3_s3_vs_rclone_check": lambda: _times(found["s3_s3"], "read_back", "copy_check", BESIDE),
        "client_cpu_per_gb_vs_rclone_check": lambda: max(
            found[name]["read_back"]["cpu_seconds"] / found[name][f"{BESIDE}read_back"]["cpu_copy_check"]
            for name in ("local_s3", "s3_s3")
            if name in found
        ),
        "journal_share_of_many_small": lambda: found["many"]["journal_share"],
        "catalog_share_of_many_small": lambda: found["many"]["catalog_share"],
        "five_huge_vs_best_single": lambda: found["huge"]["together"] / found["huge"]["alone"],
        "five_huge_vs_one_rclone": lambda: found["huge"]["together"] / found["huge"]["peer"],
        **{f"size_{name}_vs_rclone": partial(_of_size, found, name) for name in SIZES},
    }
    ratios: Figures = {}
    for name, ratio in by_name.items():
        try:
            ratios[name] = round(ratio(), 3)
        except (KeyError, ValueError):
            continue  # a pair that was not asked for, or no rclone
    return ratios


def _times(found: dict[str, Any], ours: str, peer: str, beside: str = "") -> float:
    return float(found[f"{beside}{ours}" if beside else "rclone"][peer] / found[ours]["seconds"])


def _of_size(found: dict[str, dict[str, Any]], name: str) -> float:
    rate = f"{name}_mb_per_second"
    return float(found["sizes"][f"fabric_{rate}"] / found["sizes"][f"rclone_{rate}"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the objects, fewer rounds")
    parser.add_argument("--rounds", type=int, default=0, help="default: 5, quick: 3")
    parser.add_argument("--pairs", default=",".join(NAMES))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="a folder on a disk")
    given = parser.parse_args()
    given.rounds = given.rounds or (3 if given.quick else 5)
    share = QUICK_SHARE if given.quick else 1.0
    program = servers.program("rclone")
    found: dict[str, dict[str, Any]] = {}
    for name in given.pairs.split(","):
        found[name] = measured_of(given, name, share, program)
    print(json.dumps(result(given, share, found, program)))


def result(
    given: argparse.Namespace, share: float, found: dict[str, dict[str, Any]], program: str | None
) -> dict[str, object]:
    contents = WHOLE.scaled(share)
    return {
        "bench": "migration",
        "machine": {
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "system": platform.platform(),
            "python": platform.python_version(),
        },
        "peer": _version(program),
        "set": {"small": contents.small, "large": contents.large, "huge_bytes": contents.huge_bytes},
        "rounds": given.rounds,
        "figures": found,
        "ratios": ratios_of(found),
    }


def _version(program: str | None) -> str:
    if program is None:
        return "rclone is not installed: no peer"
    ran = subprocess.run([program, "version"], capture_output=True, text=True, check=True)
    return ran.stdout.splitlines()[0]


if __name__ == "__main__":
    main()
