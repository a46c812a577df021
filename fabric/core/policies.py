"""Which policy a key has, from memory: the settings' prefix policies behind a bounded cache that an edit empties."""

from __future__ import annotations

from functools import lru_cache

from fabric.core.config import Settings
from fabric.core.words import ObjectPolicy

KEYS_MOST = 8192  # whose policy is remembered; the least recently asked goes first


class Policies:
    """Answers what `Settings.policy_for` would. Safe from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._hits = self._misses = 0
        self.replace(settings)

    def replace(self, settings: Settings) -> None:
        """Let the policies of ``settings`` hold from the next question on."""
        if hasattr(self, "_cached"):
            self._hits, self._misses = self.counts()
        self._cached = lru_cache(KEYS_MOST)(settings.policy_for)

    def policy_for(self, key: str) -> ObjectPolicy:
        """Return the policy of the longest prefix that ``key`` starts with, or the default."""
        return self._cached(key)

    def counts(self) -> tuple[int, int]:
        """Return (questions answered from memory, questions worked out) since the start."""
        info = self._cached.cache_info()
        return self._hits + info.hits, self._misses + info.misses
