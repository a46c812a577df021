"""The vault as migration uses it: the version's header is made again from the head, under the target's suite."""

from __future__ import annotations

from typing import Protocol

from fabric.catalog.heads import Head, Replica, Version
from fabric.core.words import Classification, Suite, Zone
from fabric.formats.blob import Draft
from fabric.migration.ports import Sealed
from fabric.storage.store import Store


class Vault(Protocol):
    """What is needed of `fabric.security.vault.Vault`."""

    def suite_for(self, classification: str, zone: str) -> Suite: ...
    def reseal(self, store: Store, replica: Replica, draft: Draft, suite: Suite) -> Sealed: ...
    def sealed_bytes(self, draft: Draft, suite: Suite, plain_bytes: int) -> int: ...


class VaultSealer:
    """Keeps `fabric.migration.ports.Sealer` with a vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def suite_for(self, classification: Classification, zone: Zone) -> Suite:
        """Return the suite a zone asks of a class; ForbiddenError where the class may not lie there."""
        return self._vault.suite_for(classification, zone)

    def reseal(self, store: Store, replica: Replica, head: Head, version: Version, suite: Suite) -> Sealed:
        """Return the replica's plain bytes sealed anew; its data key is a fresh one, its version id the same."""
        return self._vault.reseal(store, replica, draft_of(head, version), suite)

    def sealed_bytes(self, head: Head, version: Version, suite: Suite) -> int:
        """Return how many bytes sealing ``version`` anew makes: header, body with its tags, footer."""
        return self._vault.sealed_bytes(draft_of(head, version), suite, version.size_bytes)


def draft_of(head: Head, version: Version) -> Draft:
    """Return what the header of ``version`` says, from the catalog."""
    return Draft(
        key=head.key,
        version_id=version.id,
        created=version.created,
        dot=version.dot,
        context=version.context,
        policy=head.policy,
        content_type=version.content_type,
        metadata=version.metadata,
        priced_bytes=version.priced_bytes,
        sample=head.sample,
        key_id=head.key_id,
    )
