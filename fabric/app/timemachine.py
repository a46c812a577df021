"""The time machine behind the dashboard's page: replays in a process of their own, and their results kept.

One replay runs at a time. A result is named by the hash of its inputs, so that the same question has one address; the
newest RESULTS_MOST are kept. Uploaded files are removed with the replay that used them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import msgspec

import fabric
from fabric.app.recorded import LISTING_FILE, TRACE_FILE
from fabric.app.replaytold import ANSWER_FILE, PROBLEM_FILE, PROGRESS_FILE, QUESTION_FILE, Progress, Question
from fabric.app.uploads import BYTES_MOST, FILES_MOST, Given, Uploads
from fabric.core.clock import Clock, iso
from fabric.core.errors import BadInputError, ConflictError, FabricError, ForbiddenError, NotFoundError
from fabric.core.files import write_whole
from fabric.placement.replay.kept import SORTS, Kept
from fabric.placement.replay.tariff import MANAGED, default_classes
from fabric.pricing.sheet import PriceBook
from fabric.runtime.component import Page
from fabric.security.tokens import Action, Principal

FORMAT = 1  # of a result; another one is replayed again
RESULTS_MOST = 20
SETTLE_SECONDS = 10.0  # at most, until what an ended replay left is put away
ENDED_MOST = 20  # failed and cancelled replays remembered
END_SECONDS = 1.0  # how long a process is given to end before it is killed
ID_LETTERS = 24
PROVIDERS = ("aws", "gcp", "azure")
LOG_TAIL = 300

logger = logging.getLogger(__name__)


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person asks to have replayed."""

    upload: str = ""
    store: str = ""  # a connected store, whose last scan is the inventory
    history: bool = False  # the accesses that the fabric itself has recorded
    provider: str = "aws"
    classes: tuple[str, ...] = ()
    policies: tuple[str, ...] = ()
    stretch: float = 1.0
    horizon_days: int | None = None


class Kind(msgspec.Struct, frozen=True):
    """What is kept beside a result: what was asked and of which files."""

    format: int
    id: str
    asked: dict[str, Any]
    files: list[dict[str, Any]]
    begun: float
    seconds: float


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


Export = Callable[[Path], Path]


class TimeMachine:
    """Starts, watches, ends and keeps replays. Safe from any thread; the engine's process alone has one.

    Args:
        folder: of its own; what a replay of an earlier process left half done is removed.
        principal: turns whom the dashboard let in into a principal.
        prices: a file laid over the built-in price sheets, "" for none.
        history: writes the fabric's own accesses as a trace into a folder.
        stores: names of connected stores that were scanned, and what names the state of each scan.
        listing: writes a store's last scan as an inventory: (folder, store, provider) -> file.
        history_mark: names the state of the recorded accesses; "" where there are none.
        record: takes an audit line: (action, who, subject, facts).
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        principal: Callable[[Any], Principal],
        *,
        prices: str = "",
        history: Export | None = None,
        stores: Callable[[], Mapping[str, str]] = dict,
        listing: Callable[[Path, str, str], Path] | None = None,
        history_mark: Callable[[], str] = str,
        record: Callable[..., object] = lambda *_, **__: None,
    ) -> None:
        self._folder, self._clock, self._principal, self._prices = folder, clock, principal, prices
        self._history, self._history_mark, self._record = history, history_mark, record
        self._stores, self._listing = stores, listing
        self._lock = threading.Lock()
        self._running: Job | None = None
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._open: tuple[str, Kept] | None = None
        self.uploads = Uploads(folder / "uploads", clock)
        shutil.rmtree(folder / "running", ignore_errors=True)

    # ---------------------------------------------------------------- what the dashboard asks

    def overview(self, who: Any) -> dict[str, Any]:
        """Return what can be chosen, what runs, and the results kept, the newest first."""
        running = self._running
        return {
            "may_start": self._principal(who).may(Action.OPERATE),
            "providers": {name: _choice(self._book(), name) for name in PROVIDERS},
            "history": bool(self._history_mark()),
            "stores": sorted(self._stores()),
            "bytes_most": BYTES_MOST,
            "files_most": FILES_MOST,
            "running": running.kind.id if running else None,
            "results": [_listed(kind) for kind in self._results()],
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
        asked = _asked(body)
        files = self.uploads.files(asked.upload) if asked.upload else []
        self._check_question(asked, files)
        name = self._name(asked, files)
        if self._result(name) is not None:
            self.uploads.drop(asked.upload)
            return {"id": name, "state": "done"}
        job = self._begin(name, asked, files)
        self._record("replay", self._principal(who).name, name, files=len(files))
        return {"id": name, "state": job.state}

    def state(self, replay: str) -> dict[str, Any]:
        """Return a replay's progress, its result, or why it has none."""
        job = self._job(replay)
        if job is not None:
            kind = _listed(job.kind)
            return kind | {"state": job.state, "problem": job.problem or None, "progress": self._progress(job)}
        kind_kept = self._result(replay)
        if kind_kept is None:
            raise NotFoundError(
                "there is no such replay", id=replay[:64], hint="it may have been replaced; run it again"
            )
        document = msgspec.json.decode((self._results_folder / replay / ANSWER_FILE).read_bytes())
        return _listed(kind_kept) | {"state": "done", "document": document}

    def end(self, who: Any, replay: str) -> dict[str, Any]:
        """Cancel a replay that runs; remove the result of one that is done."""
        self._check(who)
        job = self._running
        if job is not None and job.kind.id == replay:
            self._cancel(job)
            return {"id": replay, "state": job.state}
        if self._result(replay) is None:
            raise NotFoundError("there is no such replay", id=replay[:64])
        shutil.rmtree(self._results_folder / replay, ignore_errors=True)
        return {"id": replay, "state": "removed"}

    def objects(self, replay: str, *, search: str, cursor: str | None, limit: int, sort: str) -> Page:
        """Return a page of a result's objects."""
        start = int(cursor) if cursor and cursor.isascii() and cursor.isdigit() else 0
        found = self._kept(replay).page(search=search, start=start, limit=limit, sort=sort or SORTS[0])
        after = start + len(found["rows"])
        rows = [{"id": str(row["number"]), **row} for row in found["rows"]]
        return Page(COLUMNS, rows, found["total"], str(after) if after < found["total"] else None)

    def receipt(self, replay: str, number: int) -> dict[str, Any]:
        """Return one object's receipt, with the hash of the inputs and a command that gives the same figures."""
        found = self._kept(replay).receipt(number)
        kind = self._result(replay)
        assert kind is not None, "its objects were just read"
        origin = msgspec.json.decode((self._results_folder / replay / ANSWER_FILE).read_bytes()).get("origin", 0.0)
        classes = [row["class"] for row in found["prices"]]
        inputs = {"sha256": replay, "files": kind.files}
        command = self._command(kind, classes, found["object"]["key"])
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
        by_role = {
            role: tuple(str(f.path) for f in files if f.role == role) for role in ("accesses", "inventory", "bill")
        }
        if asked.store and self._listing is not None:
            by_role["inventory"] = (str(self._listing(job.folder / "result", asked.store, asked.provider)),)
        if asked.history and self._history is not None:
            by_role["accesses"] = (str(self._history(job.folder / "result")),)
        question = Question(
            **by_role,
            within=str(job.folder),
            prices=self._prices,
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
                    command, env=_environment(), stdin=subprocess.PIPE, stdout=log, stderr=log
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
            text = _without_paths((result / PROBLEM_FILE).read_bytes(), job.folder)
            self._fail(job, msgspec.json.decode(text, type=dict[str, Any]))
        if job.state == "running" and (result / ANSWER_FILE).exists():
            self._keep(job, result)
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

    def _keep(self, job: Job, result: Path) -> None:
        seconds = self._clock.monotonic() - job.begun
        kind = msgspec.structs.replace(job.kind, seconds=seconds)
        write_whole(result / "kind.json", msgspec.json.encode(kind), durable=False)
        text = _without_paths((result / ANSWER_FILE).read_bytes(), job.folder)
        write_whole(result / ANSWER_FILE, text, durable=False)
        for name in (PROGRESS_FILE, QUESTION_FILE):
            (result / name).unlink(missing_ok=True)
        self._results_folder.mkdir(parents=True, exist_ok=True)
        to = self._results_folder / job.kind.id
        shutil.rmtree(to, ignore_errors=True)
        result.rename(to)
        for old in self._results()[RESULTS_MOST:]:
            shutil.rmtree(self._results_folder / old.id, ignore_errors=True)

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

    @property
    def _results_folder(self) -> Path:
        return self._folder / "results"

    def _results(self) -> list[Kind]:
        names = [path.name for path in self._results_folder.iterdir()] if self._results_folder.is_dir() else []
        found = [kind for name in names if (kind := self._result(name)) is not None]
        return sorted(found, key=lambda kind: kind.begun, reverse=True)

    def _result(self, name: str) -> Kind | None:
        if len(name) != ID_LETTERS or not name.isalnum():
            return None
        try:
            kind = msgspec.json.decode((self._results_folder / name / "kind.json").read_bytes(), type=Kind)
        except (OSError, msgspec.MsgspecError):
            return None
        return kind if kind.format == FORMAT else None

    def _kept(self, name: str) -> Kept:
        kind = self._result(name)
        if kind is None:
            raise NotFoundError("there is no such replay", id=name[:64], hint="it may have been replaced; run it again")
        opened = self._open
        if opened is None or opened[0] != name:
            opened = self._open = (name, Kept(self._results_folder / name))
        return opened[1]

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

    # ---------------------------------------------------------------- checks and names

    def _check(self, who: Any) -> None:
        principal = self._principal(who)
        if not principal.may(Action.OPERATE):
            raise ForbiddenError(
                "your role does not start replays", role=str(principal.role), hint="ask for the role operator"
            )

    def _check_question(self, asked: Asked, files: list[Given]) -> None:
        if asked.provider not in PROVIDERS:
            raise BadInputError("there are no prices of the provider", provider=asked.provider[:40])
        if not files and not asked.history and not asked.store:
            raise BadInputError("there is nothing to replay", hint="choose an access log, an inventory, or the history")
        if asked.store and asked.store not in self._stores():
            raise NotFoundError("no such store was scanned", store=asked.store[:80], hint="choose one of the list")
        if asked.store and any(file.role == "inventory" for file in files):
            raise BadInputError("give an inventory or a connected store, not both")
        if asked.history and any(file.role == "accesses" for file in files):
            raise BadInputError("give access logs or the fabric's own history, not both")
        if asked.history and not self._history_mark():
            raise NotFoundError("the fabric has recorded no access yet", hint="choose an access log")
        if all(file.role == "bill" for file in files) and not asked.history and not asked.store:
            raise BadInputError("an invoice alone says nothing of objects", hint="add an access log")
        for name in asked.classes:
            if name not in _classes(self._book(), asked.provider):
                self._book().price(asked.provider, name)
        if not 0 < asked.stretch < float("inf"):
            raise BadInputError("the stretch must be above 0", stretch=asked.stretch)
        if asked.horizon_days is not None and asked.horizon_days < 1:
            raise BadInputError("the horizon must be at least one day", horizon_days=asked.horizon_days)

    def _name(self, asked: Asked, files: list[Given]) -> str:
        options = {name: value for name, value in msgspec.to_builtins(asked).items() if name != "upload"}
        prices = Path(self._prices).read_bytes() if self._prices else b""
        inputs = [
            FORMAT,
            fabric.__version__,
            sorted((f.role, f.name, f.sha256) for f in files),
            options,
            self._history_mark() if asked.history else "",
            self._stores().get(asked.store, ""),
            hashlib.sha256(prices).hexdigest(),
            [self._book().sheet(asked.provider).date, self._book().sheet(asked.provider).source],
        ]
        return hashlib.sha256(msgspec.json.encode(inputs, order="deterministic")).hexdigest()[:ID_LETTERS]

    def _book(self) -> PriceBook:
        return PriceBook.load(Path(self._prices) if self._prices else None)

    def _command(self, kind: Kind, classes: list[str], key: str) -> str:
        asked = msgspec.convert(kind.asked, Asked)
        words = ["python", "-m", "fabric", "replay"]
        if asked.history:
            words += ["--accesses", str(self._results_folder / kind.id / TRACE_FILE)]
        for role in ("accesses", "inventory"):
            names = [file["name"] for file in kind.files if file["role"] == role]
            words += [f"--{role}", *names] if names else []
        if asked.store:
            words += ["--inventory", str(self._results_folder / kind.id / LISTING_FILE)]
        words += ["--provider", asked.provider, "--classes", ",".join(classes)]
        words += ["--prices", self._prices] if self._prices else []
        words += ["--stretch", f"{asked.stretch:g}"] if asked.stretch != 1.0 else []
        words += ["--horizon-days", str(asked.horizon_days)] if asked.horizon_days is not None else []
        return shlex.join([*words, "--object", key])


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


def _asked(body: dict[str, Any]) -> Asked:
    try:
        return msgspec.convert(body, Asked)
    except msgspec.ValidationError as error:
        raise BadInputError(f"the question cannot be understood: {error}", hint="see /api/openapi.json") from error


def _classes(book: PriceBook, provider: str) -> list[str]:
    return [*book.classes(provider), *book.sheet(provider).managed]


def _choice(book: PriceBook, provider: str) -> dict[str, list[str]]:
    """Return the classes that can be chosen, and those chosen where nobody does."""
    managed = [name for name in book.sheet(provider).managed if name in MANAGED]
    return {
        "plain": list(book.classes(provider)),
        "managed": managed,
        "chosen": list(default_classes(book, provider)),
    }


def _listed(kind: Kind) -> dict[str, Any]:
    return {"id": kind.id, "asked": kind.asked, "files": kind.files, "begun": iso(kind.begun), "seconds": kind.seconds}


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


def _without_paths(text: bytes, folder: Path) -> bytes:
    """Return JSON that names files as people know them, not where they lay."""
    given = re.escape(f"{folder}/given/").encode() + rb"\w+/"
    return re.sub(given, b"", text.replace(f"{folder}/result/".encode(), b""))


def _environment() -> dict[str, str]:
    home = str(Path(fabric.__file__).resolve().parent.parent)
    paths = [home, *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
