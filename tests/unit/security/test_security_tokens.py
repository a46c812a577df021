from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.catalog.database import Database
from fabric.catalog.tokens import TokenRows
from fabric.core.clock import ManualClock
from fabric.core.errors import BadInputError, ConflictError, NotFoundError
from fabric.core.words import Classification
from fabric.security.tokens import ALLOWED, Action, Role, Tokens

Lines = list[tuple[str, str, str]]


@pytest.fixture
def lines() -> Lines:
    return []


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "catalog.db")
    database.start()
    yield database
    database.stop()


@pytest.fixture
def tokens(database: Database, lines: Lines) -> Tokens:
    def record(action: str, who: str, subject: str, **_: object) -> None:
        lines.append((action, who, subject))

    return Tokens(TokenRows(database), ManualClock(), record, engine_token="engine-secret")


def test_a_token_reads_the_classes_it_was_given_and_public_ones(tokens: Tokens) -> None:
    token = tokens.add("ada", "viewer", ["sensitive", "private"], by="local")
    ada = tokens.who(token)
    assert ada is not None
    assert {kind for kind in Classification if ada.may_read(kind)} == {"sensitive", "private", "public"}
    assert not ada.may_read("unknown")


@pytest.mark.parametrize("role", list(Role))
def test_a_role_may_what_the_table_says_and_nothing_unknown(tokens: Tokens, role: Role) -> None:
    someone = tokens.who(tokens.add("someone", role, [], by="local"))
    assert someone is not None
    assert {action for action in Action if someone.may(action)} == ALLOWED[role]
    assert not someone.may("everything")
    assert someone.may("view")
    assert someone.may("erase") == (role in (Role.SECURITY, Role.ADMIN))
    assert someone.may("approve") == (role in (Role.APPROVER, Role.ADMIN))


def test_once_one_token_exists_only_public_objects_are_read_without_one(tokens: Tokens) -> None:
    assert all(tokens.anonymous().may_read(kind) for kind in Classification)
    tokens.add("ada", "viewer", [], by="local")
    assert [kind for kind in Classification if tokens.anonymous().may_read(kind)] == [Classification.PUBLIC]
    assert not tokens.anonymous().may("write")
    tokens.remove("ada", by="local")
    assert tokens.anonymous().may_read("private")


def test_the_engines_own_token_is_the_person_at_this_machine(tokens: Tokens) -> None:
    local = tokens.who("engine-secret")
    assert local is not None
    assert local.local
    assert all(local.may(action) for action in Action)
    assert all(local.may_read(kind) for kind in Classification)


@pytest.mark.parametrize("wrong", ["", "engine-secre", "fabric_x", "é", "a" * 10_000])
def test_an_unknown_token_is_nobody(tokens: Tokens, wrong: str) -> None:
    tokens.add("ada", "viewer", [], by="local")
    assert tokens.who(wrong) is None


def test_without_an_engine_token_an_empty_one_is_nobody(database: Database) -> None:
    assert Tokens(TokenRows(database), ManualClock(), lambda *a, **k: None).who("") is None


def test_tokens_survive_a_restart_and_are_nowhere_in_the_catalog(tokens: Tokens, database: Database) -> None:
    token = tokens.add("ada", "operator", ["private"], by="local")
    database.stop()
    assert token.encode() not in b"".join(path.read_bytes() for path in database.path.parent.iterdir())
    again = Database(database.path)
    again.start()
    ada = Tokens(TokenRows(again), ManualClock(), lambda *a, **k: None).who(token)
    again.stop()
    assert ada is not None
    assert ada.role is Role.OPERATOR


def test_a_removed_token_is_refused_at_once_and_both_acts_are_recorded(tokens: Tokens, lines: Lines) -> None:
    token = tokens.add("ada", "viewer", [], by="local")
    tokens.remove("ada", by="eve")
    assert tokens.who(token) is None
    assert lines == [("token.added", "local", "token:ada"), ("token.removed", "eve", "token:ada")]


def test_a_second_token_of_one_name_and_a_missing_one_are_refused(tokens: Tokens) -> None:
    tokens.add("ada", "viewer", [], by="local")
    with pytest.raises(ConflictError):
        tokens.add("ada", "admin", [], by="local")
    with pytest.raises(NotFoundError):
        tokens.remove("bob", by="local")


@pytest.mark.parametrize(
    ("name", "role", "classes"),
    [
        ("", "viewer", []),
        ("local", "viewer", []),
        ("x", "king", []),
        ("x", "viewer", ["secret"]),
        ("a\n", "viewer", []),
    ],
)
def test_an_impossible_token_is_refused_with_what_is_known(
    tokens: Tokens, name: str, role: str, classes: list[str]
) -> None:
    with pytest.raises(BadInputError):
        tokens.add(name, role, classes, by="local")


def test_four_eyes_begin_with_the_second_who_may_approve(tokens: Tokens) -> None:
    tokens.add("one", "approver", [], by="local")
    tokens.add("two", "viewer", [], by="local")
    assert not tokens.four_eyes
    tokens.add("three", "admin", [], by="local")
    assert tokens.four_eyes
