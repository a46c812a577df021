"""What must never be lost, and never be seen by the wrong eyes, over the real engine."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from safety_world import CALLER, blobs, opened, put, settings

from fabric.core.errors import ConflictError, CorruptError, FabricError, NotFoundError
from fabric.core.words import Classification, ObjectPolicy
from fabric.plane.objects import PutOptions
from fabric.security.tokens import LOCAL


def test_a_kept_secret_sibling_does_not_become_public_by_a_public_write(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "secret/plan", b"one")
        put(engine, "secret/plan", b"two", PutOptions(context={}))
        public = PutOptions(policy=ObjectPolicy(Classification.PUBLIC), context={})
        with pytest.raises(ConflictError):
            put(engine, "secret/plan", b"three", public)
        head = engine.heads.get("secret/plan")
        assert head is not None
        assert head.policy.classification is Classification.RESTRICTED
        assert len(head.versions) == 2
        assert blobs(engine) == {(r.store, r.blob) for version in head.versions for r in version.replicas}


def test_a_write_that_replaces_everything_may_change_the_class(tmp_path: Path) -> None:
    with opened(tmp_path, start=False) as (engine, _):
        put(engine, "a", b"one")
        put(engine, "a", b"two", PutOptions(policy=ObjectPolicy(Classification.PUBLIC)))
        head = engine.heads.get("a")
        assert head is not None
        assert head.policy.classification is Classification.PUBLIC
