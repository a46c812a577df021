"""The time machine behind the dashboard's page: replays in a process of their own, and their results kept.

One replay runs at a time. A result is named by the hash of its inputs, so that the same question has one address; the
newest RESULTS_MOST are kept. Uploaded files are removed with the replay that used them.
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

from fabric.app.recorded import LISTING_FILE
from fabric.app.replayasked import Asked, Known, check_question, command_for, name_of, read_question
from fabric.app.replaykept import FORMAT, Kind, Results, without_paths
from fabric.app.replaytold import ANSWER_FILE, PROBLEM_FILE, PROGRESS_FILE, QUESTION_FILE, Progress, Question
from fabric.app.uploads import BYTES_MOST, FILES_MOST, ROLES, Given, Uploads
from fabric.core.child import environment
from fabric.core.clock import Clock
from fabric.core.errors import BadInputError, ConflictError, FabricError, ForbiddenError
from fabric.core.files import write_whole
from fabric.placement.replay.kept import SORTS
from fabric.placement.replay.today import Where
from fabric.runtime.component import Page
from fabric.security.tokens import Action, Principal

SETTLE_SECONDS = 10.0  # at most, until what an ended replay left is put away
ENDED_MOST = 20  # failed and cancelled replays remembered
END_SECONDS = 1.0  # how long a process is given to end before it is killed
LOG_TAIL = 300

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Job:
    """One replay under way, or one that ended without a result."""

    kind: Kind
    folder: Path
    begun: float  # monotonic
    rows_all: int
    state: str = "running"
    process: subprocess.Popen[bytes] | None = None
    problem: dict[str, Any] = field(default_factory=dict)
    ended: threading.Event = field(default_factory=threading.Event)


class TimeMachine:
    """Starts, watches, ends and keeps replays. Safe from any thread; the engine's process alone has one.

    Args:
        folder: of its own; what a replay of an earlier process left half done is removed.
        principal: turns whom the dashboard let in into a principal.
        known: the prices, the recorded history and the scanned stores that can be asked about.
        record: takes an audit line: (action, who, subject, facts).
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        principal: Callable[[Any], Principal],
        *,
        known: Known | None = None,
        record: Callable[..., object] = lambda *_, **__: None,
    ) -> None:
        self._folder, self._clock, self._principal = folder, clock, principal
        self._known, self._record = known or Known(), record
        self._results = Results(folder / "results")
        self._lock = threading.Lock()
        self._running: Job | None = None
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self.uploads = Uploads(folder / "uploads", clock)
        shutil.rmtree(folder / "running", ignore_errors=True)

    # ---------------------------------------------------------------- what the dashboard asks

    def overview(self, who: Any) -> dict[str, Any]:
        """Return what can be chosen, what runs, and the results kept, the newest first."""
        running = self._running
        return {
            "may_start": self._principal(who).may(Action.OPERATE),
            **self._known.choices(),
            "bytes_most": BYTES_MOST,
            "files_most": FILES_MOST,
            "running": running.kind.id if running else None,
            "results": [kind.facts for kind in self._results.all()],
        }

    def take(self, who: Any, upload: str, role: str, name: str, stream: IO[bytes]) -> dict[str, Any]:
        """Receive one file of an upload."""
        self._check(who)
        given = self.uploads.take(upload, role, name, stream)
        return {"name": given.name, "bytes": given.size_bytes, "sha256": given.sha256}

    def drop(self, who: Any, upload: str) -> dict[str, Any]:
        """Remove an upload."""
        self._check(who)
        self.uploads.drop(upload)
        return {"removed": upload}

    def start(self, who: Any, body: dict[str, Any]) -> dict[str, Any]:
        """Begin a replay, or name the one that has answered the same question before.

        Raises:
            BadInputError, ConfigError: the question is impossible. ConflictError: another replay runs.
        """
        self._check(who)
        asked = read_question(body)
        files = self.uploads.files(asked.upload) if asked.upload else []
        check_question(asked, files, self._known)
        name = name_of(asked, files, self._known)
        if self._results.find(name) is not None:
            self.uploads.drop(asked.upload)
            return {"id": name, "state": "done"}
        job = self._begin(name, asked, files)
        self._record("replay", self._principal(who).name, name, files=len(files))
        return {"id": name, "state": job.state}

    def state(self, replay: str) -> dict[str, Any]:
        """Return a replay's progress, its result, or why it has none."""
        job = self._job(replay)
        if job is not None:
            return job.kind.facts | {
                "state": job.state,
                "problem": job.problem or None,
                "progress": self._progress(job),
            }
        kind = self._results.get(replay)
        return kind.facts | {"state": "done", "document": self._results.document(replay)}

    def end(self, who: Any, replay: str) -> dict[str, Any]:
        """Cancel a replay that runs; remove the result of one that is done."""
        self._check(who)
        job = self._running
        if job is not None and job.kind.id == replay:
            self._cancel(job)
            return {"id": replay, "state": job.state}
        self._results.remove(self._results.get(replay).id)
        return {"id": replay, "state": "removed"}

    def objects(self, replay: str, *, search: str, cursor: str | None, limit: int, sort: str) -> Page:
        """Return a page of a result's objects."""
        start = int(cursor) if cursor and cursor.isascii() and cursor.isdigit() else 0
        found = self._results.objects(replay).page(search=search, start=start, limit=limit, sort=sort or SORTS[0])
        after = start + len(found["rows"])
        rows = [{"id": str(row["number"]), **row} for row in found["rows"]]
        return Page(COLUMNS, rows, found["total"], str(after) if after < found["total"] else None)

    def receipt(self, replay: str, number: int) -> dict[str, Any]:
        """Return one object's receipt, with the hash of the inputs and a command that gives the same figures."""
        found = self._results.objects(replay).receipt(number)
        kind, document = self._results.get(replay), self._results.document(replay)
        classes = [row["class"] for row in found["prices"]]
        inputs = {"sha256": replay, "files": kind.files}
        folder = self._results.path(replay)
        command = command_for(kind, folder, classes, found["object"]["key"], self._known.prices)
        origin = document.get("origin", 0.0)
        return found | {"inputs": inputs, "command": command, "origin": origin, "asked": kind.asked}

    def stop(self) -> None:
        """End what runs; called once, at the engine's end."""
        if self._running is not None:
            self._cancel(self._running)

    # ---------------------------------------------------------------- a replay's life

    def _begin(self, name: str, asked: Asked, files: list[Given]) -> Job:
        last = self._running
        if last is not None and last.state != "running":
            last.ended.wait(SETTLE_SECONDS)  # it has ended and is being put away
        with self._lock:
            if self._running is not None and self._running.kind.id == name:
                return self._running
            if self._running is not None:
                raise ConflictError(
                    "another replay is under way", id=self._running.kind.id, hint="wait for it, or cancel it"
                )
            told = [{"role": f.role, "name": f.name, "bytes": f.size_bytes, "sha256": f.sha256} for f in files]
            kind = Kind(FORMAT, name, msgspec.to_builtins(asked), told, self._clock.now(), 0.0)
            rows = [f.lines for f in files if f.role == "accesses"]
            known = sum(rows) if rows and min(rows) >= 0 else 0
            folder = self._folder / "running" / name
            job = self._running = Job(kind, folder, self._clock.monotonic(), known)
            self._ended.pop(name, None)
        threading.Thread(target=self._run, args=(job, asked), name="replay", daemon=True).start()
        return job

    def _run(self, job: Job, asked: Asked) -> None:
        try:
            self._prepare(job, asked)
            self._wait(job)
        except FabricError as error:
            self._fail(job, error.problem())
        except OSError as error:
            self._fail(job, BadInputError(f"the replay cannot be written: {error.strerror}").problem())
        finally:
            self._settle(job)

    def _prepare(self, job: Job, asked: Asked) -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        (job.folder / "result").mkdir(parents=True)
        files = self.uploads.hand_over(asked.upload, job.folder / "given") if asked.upload else []
        by_role = {role: tuple(str(f.path) for f in files if f.role == role) for role in ROLES}
        stores, where = self._known.stores, Where()
        if asked.store and stores is not None:
            file, as_logged = job.folder / "result" / LISTING_FILE, asked.as_logged(files)
            by_role["inventory"] = (str(stores.write(file, asked.store, asked.provider, as_logged=as_logged)),)
            where = stores.where(asked.store)
        if asked.history and self._known.history is not None:
            by_role["accesses"] = (str(self._known.history(job.folder / "result")),)
        question = Question(
            **by_role,
            within=str(job.folder),
            prices=self._known.prices,
            where=where,
            provider=asked.provider,
            classes=asked.classes,
            policies=asked.policies,
            stretch=asked.stretch,
            horizon_days=asked.horizon_days,
        )
        write_whole(job.folder / "result" / QUESTION_FILE, msgspec.json.encode(question), durable=False)

    def _wait(self, job: Job) -> None:
        command = [sys.executable, "-m", "fabric.app.replaychild", str(job.folder / "result")]
        with (job.folder / "log").open("wb") as log:
            with self._lock:
                if job.state != "running":
                    return
                job.process = subprocess.Popen(
                    command, env=environment(), stdin=subprocess.PIPE, stdout=log, stderr=log
                )
            code = job.process.wait()
        assert job.process.stdin is not None
        job.process.stdin.close()
        if job.state == "running" and code != 0:
            words = (job.folder / "log").read_text(encoding="utf-8", errors="replace").strip()[-LOG_TAIL:]
            logger.warning("a replay ended early", extra={"code": code, "words": words})
            hint = "memory ran out, or it was ended from outside; give fewer files or replay on the command line"
            self._fail(job, BadInputError("the replay ended early", hint=hint, code=code).problem())

    def _fail(self, job: Job, problem: dict[str, Any]) -> None:
        with self._lock:
            if job.state == "running":
                job.state, job.problem = "failed", problem

    def _settle(self, job: Job) -> None:
        """Keep the result, or the reason; remove everything else."""
        result = job.folder / "result"
        if job.state == "running" and (result / PROBLEM_FILE).exists():
            text = without_paths((result / PROBLEM_FILE).read_bytes(), job.folder)
            self._fail(job, msgspec.json.decode(text, type=dict[str, Any]))
        if job.state == "running" and (result / ANSWER_FILE).exists():
            kind = msgspec.structs.replace(job.kind, seconds=self._clock.monotonic() - job.begun)
            self._results.keep(kind, result, job.folder)
        shutil.rmtree(job.folder, ignore_errors=True)
        with self._lock:
            if job.state == "running":
                job.state = "done"
            else:
                self._ended[job.kind.id] = job
            while len(self._ended) > ENDED_MOST:
                self._ended.popitem(last=False)
            self._running = None
        job.ended.set()

    def _cancel(self, job: Job) -> None:
        with self._lock:
            if job.state == "running":
                job.state = "cancelled"
            process = job.process
        if process is not None:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        job.ended.wait(END_SECONDS)

    # ---------------------------------------------------------------- looking

    def _job(self, name: str) -> Job | None:
        with self._lock:
            running = self._running
            if running is not None and running.kind.id == name:
                return running
            return self._ended.get(name)

    def _progress(self, job: Job) -> dict[str, Any]:
        try:
            told = msgspec.json.decode((job.folder / "result" / PROGRESS_FILE).read_bytes(), type=Progress)
        except (OSError, msgspec.MsgspecError):
            told = Progress()
        seconds = self._clock.monotonic() - job.begun
        facts: dict[str, Any] = msgspec.to_builtins(told)
        return facts | {
            "seconds": seconds,
            "rows_all": job.rows_all,
            "eta_seconds": _left(told, job.rows_all, seconds),
        }

    # ---------------------------------------------------------------- checks

    def _check(self, who: Any) -> None:
        principal = self._principal(who)
        if not principal.may(Action.OPERATE):
            raise ForbiddenError(
                "your role does not start replays", role=str(principal.role), hint="ask for the role operator"
            )


COLUMNS = [
    {"name": "key", "label": "Object"},
    {"name": "saving", "label": "Saved", "unit": "usd"},
    {"name": "fabric", "label": "Fabric", "unit": "usd"},
    {"name": "do_nothing", "label": "Do nothing", "unit": "usd"},
    {"name": "optimum", "label": "Optimum", "unit": "usd"},
    {"name": "above_optimum", "label": "Above optimum", "unit": "usd"},
    {"name": "moves", "label": "Moves", "unit": ""},
    {"name": "reads", "label": "Reads", "unit": ""},
    {"name": "size_bytes", "label": "Size", "unit": "bytes"},
]


def _left(told: Progress, rows_all: int, seconds: float) -> float | None:
    """Return about how many seconds the step under way still takes, None where that is not known.

    A policy that takes long makes the estimate grow while it runs: ``seconds`` is the time now, not when it was told.
    """
    if told.phase == "reading" and rows_all and told.rows_per_second > 0:
        return max(0.0, (rows_all - told.rows) / told.rows_per_second)
    if told.phase == "policies" and told.policies_done:
        taken = seconds - told.seconds + told.phase_seconds
        return taken / told.policies_done * (told.policies_all - told.policies_done)
    return None
