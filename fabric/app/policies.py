"""The prefix policies in force: asked for every object, kept per key, and replaced as a whole while the engine runs."""

from __future__ import annotations

import threading

import msgspec

from fabric.core.config import Settings
from fabric.core.words import ObjectPolicy
from fabric.runtime.measures import Measures

KEYS_MOST = 20_000  # answers kept; all are forgotten when there are more
HITS, MISSES = "policy_cache_hits_total", "policy_cache_misses_total"
REPLACED = frozenset({"policies", "default_policy"})  # sections that need no new start


class Policies:
    """Answers `policy_for` from a bounded memory; safe from any thread.

    A key's answer never outlives the policies it came from: both are one value that `replace` swaps.
    """

    def __init__(self, settings: Settings, measures: Measures) -> None:
        self._measures = measures
        self._lock = threading.Lock()
        self._current: tuple[Settings, dict[str, ObjectPolicy]] = (settings, {})

    @property
    def settings(self) -> Settings:
        """Return the settings whose policies are in force."""
        return self._current[0]

    def policy_for(self, key: str) -> ObjectPolicy:
        """Return the policy of the longest prefix that ``key`` starts with, or the default."""
        settings, known = self._current
        found = known.get(key)
        self._measures.count(MISSES if found is None else HITS)
        if found is None:
            found = settings.policy_for(key)
            with self._lock:
                if len(known) >= KEYS_MOST:
                    known.clear()
                known[key] = found
        return found

    def replace(self, given: Settings) -> tuple[Settings, list[str]]:
        """Put the policies of ``given`` in force at once.

        Returns:
            The settings now in force, and the sections of ``given`` that differ and wait for a new start.
        """
        with self._lock:
            before = self._current[0]
            after = msgspec.structs.replace(before, policies=given.policies, default_policy=given.default_policy)
            self._current = (after, {})
        return after, [name for name in _differing(after, given) if name not in REPLACED]


def _differing(one: Settings, other: Settings) -> list[str]:
    return [name for name in one.__struct_fields__ if getattr(one, name) != getattr(other, name)]
