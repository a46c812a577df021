"""Policies from memory: the same answers as the settings, and an edit that counts at once."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.config import PolicySettings, Settings
from fabric.core.policies import Policies
from fabric.core.words import Classification

HR = Settings(policies=(PolicySettings("hr/", Classification.CONFIDENTIAL), PolicySettings("hr/open/")))
OPEN = Settings(policies=(PolicySettings("hr/", Classification.PUBLIC),))


@given(st.lists(st.sampled_from(["hr/a", "hr/open/a", "x", "hr", "hr/open"]), max_size=20))
def test_memory_answers_what_the_settings_would(keys: list[str]) -> None:
    policies = Policies(HR)
    assert [policies.policy_for(key) for key in keys] == [HR.policy_for(key) for key in keys]


@pytest.mark.item(122)
def test_what_was_asked_before_is_answered_from_memory() -> None:
    policies = Policies(HR)
    for _ in range(10):
        policies.policy_for("hr/a")
    assert policies.counts() == (9, 1)


@pytest.mark.item(122)
def test_an_edit_holds_from_the_next_question_on_and_the_counts_go_on() -> None:
    policies = Policies(HR)
    assert policies.policy_for("hr/a").classification is Classification.CONFIDENTIAL
    policies.replace(OPEN)
    assert policies.policy_for("hr/a").classification is Classification.PUBLIC
    assert policies.counts() == (0, 2)


def test_readers_meet_either_the_old_policy_or_the_new_one() -> None:
    policies, seen, ended = Policies(HR), set(), threading.Event()

    def ask() -> None:
        while not ended.is_set():
            seen.add(policies.policy_for("hr/a").classification)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(200):
        policies.replace(OPEN if turn % 2 else HR)
    ended.set()
    for thread in threads:
        thread.join()
    assert seen <= {Classification.CONFIDENTIAL, Classification.PUBLIC}
