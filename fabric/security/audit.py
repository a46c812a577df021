"""The audit chain: what was done, by whom, in an order that cannot be changed unseen.

Each line of ``audit.log`` holds the hash of the line before it; every `CHECKPOINT_RECORDS` lines, and at a stop, one
is an Ed25519 signature of the chain so far. A forger without the signing key can cut off only what came after the
last checkpoint, and the head that every report shows tells even that.

The log cannot forget, so it holds no object's name: a subject is kept as a keyed hash, by which `Audit.subject` finds
the lines of one object, unless the action belongs to a family that is never about an object (`PLAIN_FAMILIES`); so
is ``key`` in the details.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import hmac
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fabric.core.clock import Clock
from fabric.core.errors import BadInputError, CapacityError, CorruptError, UnavailableError
from fabric.core.files import write_whole
from fabric.security.auditpages import AuditLine, lines_before, lines_with
from fabric.security.commit import GroupCommit, disk_errors

logger = logging.getLogger(__name__)

FORMAT = 1
LOG_FILE = "audit.log"
PUBLIC_FILE = "audit.pub"
CHECKPOINT = "checkpoint"
CHECKPOINT_RECORDS = 256
DETAIL_MOST = 16 << 10  # bytes of one line
LATE_MOST = 10_000  # lines that may wait for their disk
START = "0" * 64
_PLAIN = (
    "alert audit backup checkpoint config engine freeze job plan rebuild restore root rule scan store token unfreeze"
)
PLAIN_FAMILIES = frozenset(_PLAIN.split())
"""The part of an action before its first dot; subjects of these are ids and names of things, never of objects."""
_TAIL_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What `verify` found. ``record`` is the number of the first line that does not fit."""

    ok: bool
    records: int
    checkpoints: int
    signed: int  # lines covered by the last good signature
    head: str  # hash of the last line
    public_key: str
    record: int | None = None
    problem: str = ""


@dataclass(slots=True)
class _Chain:
    """Where the chain stands while lines are added to it."""

    records: int
    head: str
    unsigned: int

    def add(self, record: dict[str, object]) -> bytes:
        """Return the line of ``record`` after the ones before it."""
        chained = {"format": FORMAT, "n": self.records, **record, "previous": self.head}
        self.head = str(chained.setdefault("hash", _hash(chained)))
        self.records += 1
        self.unsigned = 0 if record["action"] == CHECKPOINT else self.unsigned + 1
        return _line(chained)


class Audit:
    """Appends to the chain in ``folder``; safe from any thread, one process at a time.

    Args:
        seed: 32 bytes from which the signing key and the hash of names are made (`RootKey.derive`).

    Raises:
        CorruptError: the last whole line is damaged; ``audit verify`` says where.
    """

    def __init__(self, folder: Path, clock: Clock, seed: bytes) -> None:
        self._path, self._clock = folder / LOG_FILE, clock
        self._signer = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"sign" + seed).digest())
        self._name_key = hashlib.sha256(b"name" + seed).digest()
        self._commit: GroupCommit[dict[str, object]] = GroupCommit(self._write)
        self._late: list[dict[str, object]] = []  # lines of acts that are done, waiting for their disk
        self._records, self._head, self._unsigned = 0, START, 0
        with disk_errors("the audit log", folder):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._open(folder / PUBLIC_FILE)

    @property
    def head(self) -> tuple[int, str]:
        """Return how many lines there are and the hash of the last."""
        return self._records, self._head

    @property
    def public_key(self) -> bytes:
        """Return the 32 bytes that check the signatures."""
        return self._signer.public_key().public_bytes_raw()

    def append(self, action: str, who: str, subject: str, **details: object) -> None:
        """Record that ``who`` did ``action`` to ``subject``; returns after the line is on disk.

        Raises:
            BadInputError: the details are not JSON, or longer than a line may be.
            CapacityError, UnavailableError: not recorded; the act must not be acknowledged.
        """
        self._commit.settle(self._commit.add(self._record(action, who, subject, details)))

    def append_done(self, action: str, who: str, subject: str, **details: object) -> bool:
        """Record what cannot be undone any more, as `append`; return whether the line is on disk.

        Where the disk does not take it, it is kept in memory and goes before the next line; `ready` says so until
        then. With LATE_MOST waiting it is as `append`.
        """
        if len(self._late) >= LATE_MOST:
            self.ready()
        record = self._record(action, who, subject, details)
        try:
            self._commit.settle(self._commit.add(record))
        except (CapacityError, UnavailableError):
            logger.exception("an audit line waits for its disk; changes are refused until it is written")
            self._late.append(record)
            return False
        return True

    def ready(self) -> None:
        """Write the lines that wait; to be asked before a change begins.

        Raises:
            CapacityError, UnavailableError: they still wait; nothing that makes another line may begin.
        """
        if self._late:
            self._commit.settle(self._commit.add({"action": CHECKPOINT}))

    def _record(self, action: str, who: str, subject: str, details: dict[str, object]) -> dict[str, object]:
        record: dict[str, object] = {
            "at": round(self._clock.now(), 3),
            "action": action,
            "who": who,
            "subject": subject if _is_plain(action) else self.subject(subject.removeprefix("object:")),
            "details": {name: self.subject(str(value)) if name == "key" else value for name, value in details.items()},
        }
        try:
            length = len(_line(record))
        except (TypeError, ValueError) as error:
            raise BadInputError("the details of an audit line are not JSON", action=action) from error
        if length > DETAIL_MOST:
            raise BadInputError("an audit line is too long", action=action, hint=f"keep it under {DETAIL_MOST} bytes")
        return record

    def subject(self, key: str) -> str:
        """Return what stands in the log for the object ``key``."""
        return "object:" + hmac.new(self._name_key, key.encode(), hashlib.sha256).hexdigest()

    def checkpoint(self) -> None:
        """Sign what is not signed yet; at a stop and now and then."""
        if self._unsigned or self._late:
            self._commit.settle(self._commit.add({"action": CHECKPOINT}))

    def recent(self, count: int) -> list[dict[str, object]]:
        """Return the last ``count`` lines or fewer, newest first, from the log's last 64 KiB."""
        with disk_errors("the audit log", self._path):
            lines = _tail(self._path).splitlines()
        return [json.loads(line) for line in reversed(lines[-count:])]

    def page(self, *, before: int | None = None, search: str = "", limit: int = 100) -> tuple[list[AuditLine], int]:
        """Return lines numbered under ``before``, newest first, and how many there are that hold ``search``."""
        records = self._records
        number = records if before is None else min(before, records)
        if search:
            return lines_with(self._path, search, number, limit)
        return lines_before(self._path, number, limit), records

    def _write(self, group: list[dict[str, object]]) -> None:
        chain, lines, late = _Chain(self._records, self._head, self._unsigned), [], len(self._late)
        for record in [*self._late[:late], *group]:
            wants_signature = record["action"] == CHECKPOINT
            if not wants_signature:
                lines.append(chain.add(record))
            if wants_signature or chain.unsigned >= CHECKPOINT_RECORDS:
                lines.append(chain.add(self._signature(chain)))
        with disk_errors("the audit log", self._path):
            _append(self._path, b"".join(lines))
        self._records, self._head, self._unsigned = chain.records, chain.head, chain.unsigned
        del self._late[:late]

    def _signature(self, chain: _Chain) -> dict[str, object]:
        signature = self._signer.sign(_signed_text(chain.records, chain.head))
        return {
            "at": round(self._clock.now(), 3),
            "action": CHECKPOINT,
            "who": "engine",
            "subject": "audit",
            "details": {"signature": base64.b64encode(signature).decode()},
        }

    def _open(self, public: Path) -> None:
        if not public.exists():
            write_whole(public, base64.b64encode(self.public_key) + b"\n", durable=True)
        if not self._path.exists():
            write_whole(self._path, b"", durable=True, mode=0o600)
            return
        _drop_torn_line(self._path)
        lines = _tail(self._path).splitlines()
        if lines:
            last = _parsed(lines[-1])
            if last is None or _hash(last) != last.get("hash"):
                raise CorruptError(
                    "the last line of the audit log is damaged",
                    path=str(self._path),
                    hint="run: python -m fabric audit verify; then move the log away to begin a new one",
                )
            self._records, self._head = int(str(last["n"])) + 1, str(last["hash"])
            self._unsigned = 0 if last["action"] == CHECKPOINT else 1


def verify(folder: Path, public_key: bytes | None = None) -> AuditReport:
    """Read the whole chain in ``folder`` and say whether every line is as it was written.

    Args:
        public_key: the 32 bytes of the engine's key (`Audit.public_key`); None takes the file beside the log, which
            shows damage but not a forger who replaced that file too.

    Raises:
        UnavailableError: there is no log.
    """
    with disk_errors("the audit log", folder):
        key = public_key or base64.b64decode((folder / PUBLIC_FILE).read_text(encoding="ascii").strip())
        return _verified(_lines(folder / LOG_FILE), key)


def _verified(lines: Iterator[bytes], key: bytes) -> AuditReport:
    public, name = Ed25519PublicKey.from_public_bytes(key), base64.b64encode(key).decode()
    count, checkpoints, signed, head = 0, 0, 0, START
    for line in lines:
        record = _parsed(line)
        problem = _problem(record, count, head, public)
        if record is None or problem:
            return AuditReport(False, count, checkpoints, signed, head, name, count, problem or "it is no record")
        if record["action"] == CHECKPOINT:
            checkpoints, signed = checkpoints + 1, count
        count, head = count + 1, str(record["hash"])
    return AuditReport(True, count, checkpoints, signed, head, name)


def _problem(record: dict[str, object] | None, count: int, head: str, public: Ed25519PublicKey) -> str:
    """Say what is wrong with line ``count``, "" where nothing is."""
    if record is None:
        return "it is no record"
    if record.get("n") != count:
        return "a line before it is missing or was put in"
    if record.get("previous") != head:
        return "it does not follow from the line before it"
    if record.get("hash") != _hash(record):
        return "it was changed after it was written"
    if record.get("action") != CHECKPOINT:
        return ""
    details = record.get("details")
    signature = details.get("signature", "") if isinstance(details, dict) else ""
    try:
        public.verify(base64.b64decode(str(signature)), _signed_text(count, head))
    except (InvalidSignature, ValueError):
        return "its signature does not fit the lines before it"
    return ""


def _is_plain(action: str) -> bool:
    return action.partition(".")[0] in PLAIN_FAMILIES


def _signed_text(records: int, head: str) -> bytes:
    return f"fabric audit 1 {records} {head}".encode()


def _hash(record: dict[str, object]) -> str:
    content = {name: value for name, value in record.items() if name != "hash"}
    return hashlib.sha256(_line(content)).hexdigest()


def _line(record: dict[str, object]) -> bytes:
    return json.dumps(record, separators=(",", ":"), sort_keys=True, allow_nan=False).encode() + b"\n"


def _parsed(line: bytes) -> dict[str, object] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and _line(record) == line.rstrip(b"\n") + b"\n" else None


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from file


def _append(path: Path, data: bytes) -> None:
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(data) != len(data):
                raise OSError(errno.ENOSPC, "the disk is full")
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(before)
            raise


def _tail(path: Path) -> bytes:
    """Return the last whole lines that fit into _TAIL_BYTES."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        data = file.read()
    return data if size <= _TAIL_BYTES else data[data.index(b"\n") + 1 :]


def _drop_torn_line(path: Path) -> None:
    """Cut off a last line without end: a crash tore it before it was acknowledged."""
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _TAIL_BYTES))
        data = file.read()
        torn = len(data) - (data.rfind(b"\n") + 1)
        if torn:
            logger.warning("a torn line at the end of the audit log is dropped", extra={"bytes": torn})
            file.truncate(size - torn)
            os.fsync(file.fileno())
