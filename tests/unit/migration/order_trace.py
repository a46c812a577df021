"""System calls of a process and its threads in the order in which they happened, as strace writes them down."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CALLS = "openat,fsync,fdatasync,rename,renameat,renameat2,link,linkat,unlink,unlinkat,write,pwrite64,writev,sendto"
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)$")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")


@dataclass(frozen=True, slots=True)
class Call:
    """One call; it began at line ``first`` of the trace and had returned at line ``last``."""

    name: str
    words: str  # arguments and answer, open files with their paths
    first: int
    last: int
    thread: str

    def before(self, other: Call) -> bool:
        """Say whether it had returned when ``other`` began."""
        return self.last < other.first


def can_trace() -> bool:
    """Say whether strace is here and may look at a process."""
    return shutil.which("strace") is not None and subprocess.run(["strace", "-o", "/dev/null", "true"]).returncode == 0


def traced(command: list[str], trace: Path, environment: dict[str, str]) -> list[Call]:
    """Run ``command`` and return its calls; it must succeed."""
    strace = ["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-s", "300", "-e", "signal=none", "-e", f"trace={CALLS}"]
    ended = subprocess.run([*strace, "-o", str(trace), *command], env=environment, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()[-3000:]
    return _calls(trace.read_text(errors="replace").splitlines())


def _calls(lines: list[str]) -> list[Call]:
    found: list[Call] = []
    begun: dict[str, tuple[str, str, int]] = {}
    for number, line in enumerate(lines):
        if end := _RESUMED.match(line):
            name, words, first = begun.pop(end[1])
            found.append(Call(name, words + end[3], first, number, end[1]))
        elif start := _LINE.match(line):
            if line.endswith("<unfinished ...>"):
                begun[start[1]] = (start[2], start[3].removesuffix("<unfinished ...>").rstrip(), number)
            else:
                found.append(Call(start[2], start[3], number, number, start[1]))
    return sorted((call for call in found if " = -1 " not in call.words), key=lambda call: call.first)


class Calls:
    """The calls of one move, between its mark and the next."""

    def __init__(self, calls: list[Call]) -> None:
        self._calls = calls

    def all(self, pattern: str, *names: str) -> list[Call]:
        """Return the calls of these names (any, without) whose words match ``pattern``."""
        return [c for c in self._calls if (not names or c.name in names) and re.search(pattern, c.words)]

    def one(self, pattern: str, *names: str) -> Call:
        found = self.all(pattern, *names)
        assert len(found) == 1, (pattern, names, found)
        return found[0]

    def after(self, call: Call, pattern: str, *names: str) -> Call:
        """Return the next such call of the same thread."""
        return next(c for c in self.all(pattern, *names) if c.thread == call.thread and call.before(c))

    def point(self, name: str) -> Call:
        """Return the only time that the move reached a point."""
        return self.one(rf'/marks>, "{name}"', "write")

    def between(self, before: Call, after: Call, pattern: str, *names: str) -> list[Call]:
        """Return calls that began after ``before`` had returned, and had returned when ``after`` began."""
        return [call for call in self.all(pattern, *names) if before.before(call) and call.before(after)]


def moves(calls: list[Call]) -> dict[str, tuple[str, Calls]]:
    """Return for each object moved its blob and the calls of its move."""
    starts = [call for call in calls if call.name == "write" and '/marks>, "moving ' in call.words]
    found = {}
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        _, key, blob = re.search(r'"(moving) (\S+) (\S+)"', start.words).groups()  # type: ignore[union-attr]
        last = following.first if following is not None else calls[-1].last + 1
        found[key] = (blob, Calls([call for call in calls if start.first < call.first < last]))
    return found
