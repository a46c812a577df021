"""The durable head log: every committed head, appended and flushed in each key-table folder before the commit.

The copies are the same; one that fell behind or is missing is brought up from the best (`logfiles.recover`). The log
is compacted to the last head of each key when it has grown, and to forget the name of an erased object.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from fabric.catalog import logfiles
from fabric.catalog.database import GROUP_MOST
from fabric.catalog.heads import Head
from fabric.catalog.logfiles import Logged, decoded, frame, frames, segments, skimmed
from fabric.core.errors import CapacityError, UnavailableError
from fabric.core.failing import undoing

logger = logging.getLogger(__name__)

RECENT = 2 * GROUP_MOST  # entries that are compared with the catalog at a start; a crash leaves one group unsettled
COMPACT_LEAST_BYTES = 8 << 20  # a log smaller than this is left as it is
LOOK_AGAIN_TIMES = 1.25  # growth after which that is asked again: the answer looks at every head
COMPACT_TIMES = 4  # compacted when it is so many times as long as the heads it stands for

HeadsOf = Callable[[Sequence[str]], Mapping[str, Head]]


class HeadLog:
    """Appends; hand `note` to ``Heads(before_commit=...)`` and the log itself to ``Database.guard``.

    Args:
        folders: where copies lie, beside the key table's; made if missing.

    Raises:
        CorruptError: no copy can be read, or it was written by a newer release.
    """

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._tidying = threading.Lock()  # held while segments are replaced or copied away
        self._pending: list[Logged] = []
        self._flushed: list[int] = []
        self._to_take_back: tuple[int, ...] = ()  # could not be written when their commit failed
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        logfiles.recover(folders)
        self.sequence = self._last_sequence()
        self._settled = 0  # everything up to here is committed or taken back; 0 before `reconcile`
        self._unmarked = False  # whether heads were logged since the last mark; known from `reconcile` on
        self._to_forget: set[str] = set()
        self._looked_at_bytes = 0  # how long it was when last asked whether to compact
        self._pool = ThreadPoolExecutor(max(1, len(folders) - 1), thread_name_prefix="head-log")

    def close(self) -> None:
        """Mark what is settled, so that only a crash leaves the next start anything to take back; end the threads."""
        with self._lock:
            if self._unmarked and not (self._pending or self._flushed or self._to_take_back):
                self._mark_at_the_end()
        self._pool.shutdown()

    def _mark_at_the_end(self) -> None:
        try:
            self._mark()
        except (CapacityError, UnavailableError):
            logger.warning("the head log is not marked as settled; the next start compares its last entries")

    # ---------------------------------------------------------------- the database's guard

    def begin(self) -> None:
        """Forget the group before this one: it is committed or taken back."""
        with self._lock:
            self._pending, self._flushed = [], []

    def note(self, head: Head) -> None:
        """Take a head that is about to be committed; called inside its transaction."""
        with self._lock:
            self.sequence += 1
            self._pending.append(Logged(self.sequence, head, settled=self._settled))

    def flush(self) -> None:
        """Write what was noted to every folder and flush it.

        Raises:
            CapacityError, UnavailableError: a folder does not take it; the commit must not happen.
        """
        with self._lock:
            entries, self._pending = self._pending, []
            self._flushed = [entry.sequence for entry in entries]
            if entries:
                self._unmarked = True
                self._append(self._taking_back() + b"".join(frame(entry) for entry in entries))
                self._to_take_back = ()

    def settle(self) -> None:
        """Take note that the commit of what was flushed happened."""
        with self._lock:
            self._settled = max((self._settled, *self._flushed))
            self._flushed = []

    def abandon(self) -> None:
        """Take back what the last flush wrote: its commit did not happen."""
        with self._lock:
            self._take_back(self._flushed)
            self._pending, self._flushed = [], []

    # ---------------------------------------------------------------- after a crash, and for a rebuild

    def entries(self) -> Iterator[Logged]:
        """Yield every whole entry in order, from the copies as they are."""
        for path in segments(self._folders[0]):
            yield from map(decoded, frames(path))

    def last(self) -> dict[str, Head]:
        """Return key -> the last head whose commit was not taken back."""
        taken = {sequence for entry in self.entries() for sequence in entry.taken_back}
        heads: dict[str, Head] = {}
        for entry in self.entries():
            if entry.head is not None and entry.sequence not in taken:
                heads[entry.head.key] = entry.head
        return heads

    def reconcile(self, heads_of: HeadsOf) -> list[Head]:
        """Take back the entries whose commit a crash prevented; return their heads.

        They are the last ones, each one revision ahead of the catalog. Where older ones are ahead too, the catalog
        is older than the log (put back by hand): those were acknowledged, and nothing is taken back.

        Args:
            heads_of: what the catalog holds for at most RECENT keys (`Heads.get_many`).
        """
        with self._lock:
            recent = self._recent()
            self._unmarked = bool(recent)
            stored = heads_of(list({head.key for _, head in recent}))
            ahead = [head.revision - (stored[head.key].revision if head.key in stored else 0) for _, head in recent]
            first = next((at for at in range(len(ahead), 0, -1) if ahead[at - 1] != 1), 0)
            unsettled = recent[max(first, sum(sequence <= self._settled for sequence, _ in recent)) :]
            if len(unsettled) > GROUP_MOST or any(by > 0 for by in ahead[: len(recent) - len(unsettled)]):
                logger.error("the catalog is older than the head log; bring it up with: python -m fabric rebuild")
                self._unmarked = False  # nobody knows what is settled
                return []
            self._take_back([sequence for sequence, _ in unsettled])
            self._settled = self.sequence
            return [head for _, head in unsettled]

    def mark_restored(self) -> None:
        """Say that all that is here was acknowledged, though the catalog that was restored with it is older."""
        with self._lock:
            self._mark()

    def _mark(self) -> None:
        settled, self.sequence = self.sequence, self.sequence + 1
        self._append(frame(Logged(self.sequence, None, settled=settled)))
        self._unmarked = False

    # ---------------------------------------------------------------- keeping it short

    @contextmanager
    def still(self) -> Iterator[None]:
        """Hold off compaction while the files are copied away; appends go on."""
        with self._tidying:
            yield

    def compact_if_grown(self, live_bytes: Callable[[], int]) -> bool:
        """Compact when the log is COMPACT_TIMES as long as ``live_bytes()``; return whether it was."""
        if not self._tidying.acquire(blocking=False):  # a backup copies the files away: later
            return False
        try:
            size = logfiles.size_bytes(self._folders[0])
            if size < max(COMPACT_LEAST_BYTES, LOOK_AGAIN_TIMES * self._looked_at_bytes):
                return False
            self._looked_at_bytes = size
            if size < COMPACT_TIMES * live_bytes():
                return False
            self._compact(frozenset())
            self._looked_at_bytes = logfiles.size_bytes(self._folders[0])
            return True
        finally:
            self._tidying.release()

    def forget(self, keys: Collection[str]) -> None:
        """Remove every entry of those of ``keys`` that are deleted, in every folder. Names are gone when it returns.

        Takes time in proportion to the log's length, and waits for a backup under way; commits go on meanwhile.
        Callers who wait for each other share one compaction.

        Raises:
            CapacityError, UnavailableError: a folder does not take it or cannot be read; repeat.
        """
        if not keys:
            return
        with self._lock:
            self._to_forget.update(keys)
        with self._tidying:
            with self._lock:
                erased, self._to_forget = frozenset(self._to_forget), set()
            with undoing(lambda: self._to_forget.update(erased)):
                if erased and self._names(erased):
                    self._compact(erased)

    def _names(self, keys: frozenset[str]) -> bool:
        """Say whether an entry of any folder is about one of ``keys``."""
        for folder in self._folders:
            try:
                if logfiles.names(folder, keys):
                    return True
            except OSError as error:
                raise logfiles.translated(folder, error) from error
        return False

    def _compact(self, erased: frozenset[str]) -> None:
        """Rewrite the log so that it holds the last head of each key, and nothing of deleted keys in ``erased``.

        A crash leaves the old log or the new one.
        """
        number, upto = self._seal()
        sealed = segments(self._folders[0])[:-1]
        mark = frame(Logged(upto, None, settled=upto, compacted=True))
        try:
            kept = _kept(sealed, upto, erased)
            logfiles.replace_sealed(self._folders, number, _content(sealed, mark, upto, kept))
        except OSError as error:
            raise logfiles.translated(self._folders[0], error) from error

    def _seal(self) -> tuple[int, int]:
        """Let appends go to a new segment; return the number of the one before and the last settled entry in it."""
        with self._lock:
            if self._to_take_back:
                self._append(self._taking_back())
                self._to_take_back = ()
            open_ones = [*self._flushed, *(entry.sequence for entry in self._pending), self.sequence + 1]
            upto, number = min(open_ones) - 1, logfiles.last_number(self._folders[0])
            self.sequence += 1
            first = frame(Logged(self.sequence, None, settled=upto))
            try:
                self._everywhere(partial(logfiles.begin_segment, number=number + 1, first=first))
            except (CapacityError, UnavailableError):
                for folder in self._folders:
                    logfiles.drop_segment(folder, number + 1)
                raise
            return number, upto

    # ---------------------------------------------------------------- writing

    def _take_back(self, sequences: Sequence[int]) -> None:
        self._to_take_back += tuple(sequences)
        if not self._to_take_back:
            return
        try:
            self._append(self._taking_back())
            self._to_take_back = ()
        except (CapacityError, UnavailableError):  # it goes before the next entry
            logger.exception("head log entries wait to be taken back", extra={"entries": len(self._to_take_back)})

    def _taking_back(self) -> bytes:
        """Return the frame that takes back what waits for it, b"" for nothing."""
        if not self._to_take_back:
            return b""
        self.sequence += 1
        return frame(Logged(self.sequence, None, self._to_take_back))

    def _append(self, data: bytes) -> None:
        self._everywhere(lambda folder: logfiles.append_to(folder, data))

    def _everywhere(self, act: Callable[[Path], None]) -> None:
        """Do ``act`` in every folder, all at once: one disk's flush takes as long as all of them."""
        others = [self._pool.submit(act, folder) for folder in self._folders[1:]]
        failed = [(self._folders[0], logfiles.caught(lambda: act(self._folders[0])))]
        failed += [(to, logfiles.caught(put.result)) for to, put in zip(self._folders[1:], others, strict=True)]
        for folder, error in failed:
            if error is not None:
                raise logfiles.translated(folder, error) from error

    # ---------------------------------------------------------------- reading

    def _last_sequence(self) -> int:
        for path in reversed(segments(self._folders[0])):
            if sequences := [skimmed(data).sequence for data in frames(path)]:
                return max(sequences)
        return 0

    def _recent(self) -> list[tuple[int, Head]]:
        """Return (sequence, head) of the last entries after the last mark, without those taken back.

        Entries say what was settled when they were written; that is remembered.
        """
        found: list[Logged] = []
        for path in reversed(segments(self._folders[0])):
            found = [decoded(data) for data in deque(frames(path), 2 * RECENT)] + found
            settled = max((entry.settled for entry in found), default=0)
            if len(found) >= RECENT or (found and settled >= found[0].sequence - 1):
                break
        marked = max((entry.settled for entry in found if entry.head is None), default=0)
        self._settled = max((entry.settled for entry in found), default=0)
        taken = {sequence for entry in found for sequence in entry.taken_back}
        heads = [(entry.sequence, entry.head) for entry in found if entry.head is not None]
        return [(at, head) for at, head in heads if at > marked and at not in taken][-RECENT:]


def _kept(sealed: Sequence[Path], upto: int, erased: frozenset[str]) -> set[int]:
    """Return the sequences up to ``upto`` of the last committed head of each key, without deleted ones in ``erased``.

    Memory: the keys' names.
    """
    taken = {sequence for path in sealed for data in frames(path) for sequence in skimmed(data).taken_back}
    last: dict[str, int] = {}
    gone: set[str] = set()
    for data in (data for path in sealed for data in frames(path)):
        entry = skimmed(data)
        if entry.head is None or entry.sequence > upto or entry.sequence in taken:
            continue
        last[entry.head.key] = entry.sequence
        if entry.head.key in erased:
            head = decoded(data).head
            (gone.add if head is not None and head.deleted else gone.discard)(entry.head.key)
    return {sequence for key, sequence in last.items() if key not in gone}


def _content(sealed: Sequence[Path], mark: bytes, upto: int, kept: set[int]) -> Iterator[bytes]:
    """Yield the frames of a compacted segment; what is not settled yet stays as it is."""
    yield mark
    for path in sealed:
        for data in frames(path):
            if (sequence := skimmed(data).sequence) > upto or sequence in kept:
                yield data
