"""A copy between two containers of one account, made by the service.

The service usually has it done when it answers. A copy that takes longer goes on by itself, also when nobody waits for
it any more: until then an empty blob stands in its place. Who asks for the same copy again joins it, and who removes
the blob ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from fabric.core.errors import PreconditionError, UnavailableError
from fabric.storage.between import Carried
from fabric.storage.obstore_reading import bare_tag

POLL_SECONDS = 1.0

Translating = Callable[..., AbstractContextManager[None]]


class BlobCopy:
    """One copy to ``blob``, the provider's client of a name where nothing lies yet.

    Args:
        brought: told how much is there, about once in `POLL_SECONDS`; what it raises is raised, the copy goes on.
    """

    def __init__(self, blob: Any, translated: Translating, brought: Callable[[int], None]) -> None:
        self._blob = blob
        self._translated = translated
        self._brought = brought

    def run(self, source: Carried, tier: Any) -> tuple[str, float]:
        """Have the source's content copied; return the copy's tag and when it was made.

        Raises:
            PreconditionError, NotFoundError: as `fabric.storage.between.ServerCopy.copy`.
            UnavailableError: the service gave the copy up.
        """
        try:
            answer = self._start(source, tier)
        except PreconditionError:
            found = self._look()
            if not is_under_way(found) or _bare(found.copy.source) != _bare(source.address):
                raise
        else:
            if answer["copy_status"] == "success":
                return bare_tag(answer["etag"]), answer["last_modified"].timestamp()
            found = self._look()
        never = threading.Event()
        while is_under_way(found):
            self._brought(int((found.copy.progress or "0").partition("/")[0]))
            never.wait(POLL_SECONDS)
            found = self._look()
        if found.copy.status != "success":
            why = f"{found.copy.status} {found.copy.status_description or ''}".strip()
            raise UnavailableError("the service gave a copy up", hint="it is tried again", why=why)
        return bare_tag(found.etag), found.last_modified.timestamp()

    def _start(self, source: Carried, tier: Any) -> dict[str, Any]:
        from azure.core import MatchConditions

        said: dict[str, Any] = {} if tier is None else {"standard_blob_tier": tier}
        with self._translated(conditional=True):
            answer: dict[str, Any] = self._blob.start_copy_from_url(
                source.address,
                source_etag=f'"{source.info.tag}"',
                source_match_condition=MatchConditions.IfNotModified,
                match_condition=MatchConditions.IfMissing,
                **said,
            )
        return answer

    def _look(self) -> Any:
        with self._translated():
            return self._blob.get_blob_properties()


def is_under_way(found: Any) -> bool:
    """Tell from a blob's properties whether the service still copies it."""
    return bool(found.copy.status == "pending")


def end_copy(blob: Any, translated: Translating) -> str:
    """End a copy to ``blob`` that the service still makes; return the tag of the empty blob that stays, "" for none."""
    with translated():
        found = blob.get_blob_properties()
        if not is_under_way(found):
            return ""
        blob.abort_copy(found.copy.id)
        return bare_tag(blob.get_blob_properties().etag)


def _bare(address: str) -> str:
    """Return an address without what signs it."""
    return address.partition("?")[0]
