"""What the object API needs of the layers below; `fabric/app/engine.py` supplies the objects."""

from __future__ import annotations

from typing import Protocol

from fabric.core.words import ObjectPolicy, Place
from fabric.events.batch import AccessBatch


class PlaceChooserView(Protocol):
    """`placement/places.py`."""

    def choose(
        self, key: str, policy: ObjectPolicy, *, size_bytes: int, reads_per_month: float | None = None
    ) -> tuple[Place, ...]:
        """Return places, primary first; ForbiddenError when none is allowed."""


class IntakeView(Protocol):
    """`streaming/intake.py`."""

    def accept(self, batch: AccessBatch) -> tuple[int, int]:
        """Store the batch durably and return (offset of its first row, rows); BusyError when full."""

    def note(self, batch: AccessBatch) -> None:
        """Take the data plane's own accesses; buffered."""

    def ready(self) -> None:
        """CapacityError or UnavailableError while the log refuses what was noted."""


class DecoderView(Protocol):
    """Turns a body of columns or NDJSON into a batch."""

    def __call__(self, body: bytes, content_type: str) -> AccessBatch:
        """Return the batch; BadInputError where the body cannot be understood."""


class AuditView(Protocol):
    """`security/audit.py`."""

    def append_done(self, action: str, who: str, subject: str, **details: object) -> bool:
        """Add one line for what is done; False where it waits for its disk."""

    def ready(self) -> None:
        """CapacityError or UnavailableError while lines wait."""


class FreezeView(Protocol):
    """`runtime/freeze.py`."""

    def check(self) -> None:
        """FrozenError while a freeze is in force."""


class PrincipalView(Protocol):
    """Who asks (`security/tokens.py`)."""

    @property
    def name(self) -> str:
        """Return the name that accesses and the audit carry."""

    def may_read(self, classification: str) -> bool:
        """Say whether objects of the class may be shown to them."""

    @property
    def anonymous(self) -> bool:
        """Say whether no token was brought."""

    def may(self, action: str) -> bool:
        """Say whether their role allows an action: ``write`` is to put and delete objects."""
