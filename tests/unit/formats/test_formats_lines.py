"""Lines of text: the compiled and the tolerant way agree, and every hard line is read or rejected with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fabric.formats.access import Accesses, Account, Op
from fabric.formats.lines import LineReader
from fabric.formats.mapping import LineMapping, builtin
from fabric.formats.words import Interner, Words
from tests.unit.formats.log_lines import START, s3_line, shared_logs

BOTH = pytest.mark.parametrize("compiled", [False, True], ids=["plain", "compiled"])


def mapping(name: str) -> LineMapping:
    found = builtin(name)
    assert isinstance(found, LineMapping)
    return found


def read(text: str | bytes, *, compiled: bool, name: str = "s3_access") -> tuple[Accesses, Account]:
    account = Account()
    data = text if isinstance(text, bytes) else text.encode()
    batch = LineReader(mapping(name), account, compiled=compiled).read(data, "test.log")
    account.accepted += len(batch)
    assert account.balanced
    return batch, account


def names(batch: Accesses) -> list[bytes]:
    return [batch.keys[i] if i >= 0 else b"" for i in batch.key.tolist()]


def rows(batch: Accesses) -> list[tuple[object, ...]]:
    """Return all of a batch but the marks, which differ between the compiled and the plain way."""
    return [
        (
            batch.time[i], names(batch)[i], int(batch.op[i]), batch.bytes[i], batch.size[i], int(batch.status[i]),
            batch.requesters[int(batch.requester[i])], batch.agents[int(batch.agent[i])],
            batch.sources[int(batch.source[i])], bool(batch.request[i]),
        )
        for i in range(len(batch))
    ]  # fmt: skip


@BOTH
def test_a_line_gives_time_name_operation_bytes_size_status_and_who(compiled: bool) -> None:
    line = s3_line("a/b.bin", sent="40", size="100", status="206", requester="arn:aws:iam::1:user/x")
    batch, account = read(line, compiled=compiled)
    expected = (START, b"pail/a/b.bin", int(Op.READ), 40.0, 100.0, 206, b"arn:aws:iam::1:user/x", b"aws-cli/2.1",
                b"192.0.2.3", True)  # fmt: skip
    assert rows(batch) == [expected]
    assert account.operations == {"REST.GET.OBJECT": 1}


@BOTH
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"agent": '""Mozilla/5.0 (X; y) Safari/537.36"'}, {"agent": b'"Mozilla/5.0 (X; y) Safari/537.36'}),
        ({"agent": '"odd" agent" one"'}, {"bytes": 100.0}),
        ({"requester": " arn:two-spaces"}, {"requester": b"arn:two-spaces"}),
        ({"uri": '"GET /x?q="quoted"&r=1 HTTP/1.1"'}, {"bytes": 100.0}),
        ({"uri": '"GET /a" 999 - 1 1 1 1 "x HTTP/1.1"'}, {"status": 200}),
        ({"status": "304", "sent": "-"}, {"bytes": -1.0, "status": 304}),
        ({"size": "-"}, {"size": -1.0}),
        ({"tail": ""}, {"agent": b"aws-cli/2.1"}),
        ({"agent": '"ends with backslash\\"'}, {"agent": b"ends with backslash\\"}),
    ],
)
def test_a_hard_line_is_read_as_its_writer_meant_it(
    compiled: bool, change: dict[str, str], expected: dict[str, object]
) -> None:
    batch, account = read(s3_line(**change), compiled=compiled)
    assert not account.rejected
    found = rows(batch)[0]
    shown = dict(
        zip(("time", "name", "op", "bytes", "size", "status", "requester", "agent", "source"), found, strict=False)
    )
    assert {name: shown[name] for name in expected} == expected


@BOTH
def test_deletes_by_batch_and_by_lifecycle_are_deletes_of_their_keys(compiled: bool) -> None:
    text = s3_line("a", op="BATCH.DELETE.OBJECT", uri="-", status="204", sent="-", agent="-", request="B").replace(
        '"-"', "-"
    )
    text += s3_line("b", op="S3.EXPIRE.OBJECT", uri='"-"', status="-", sent="-", agent='"-"', request="E", source="-")
    text += s3_line("c", op="S3.CREATE.DELETEMARKER", uri="-", status="-", sent="-", request="F")
    batch, account = read(text, compiled=compiled)
    assert batch.op.tolist() == [Op.DELETE] * 3
    assert names(batch) == [b"pail/a", b"pail/b", b"pail/c"]
    assert not account.rejected


@BOTH
def test_keys_are_decoded_twice_and_those_of_lifecycle_and_batch_once(compiled: bool) -> None:
    text = s3_line("caf%25C3%25A9/a%2520b") + s3_line("caf%C3%A9/a%20b", op="S3.EXPIRE.OBJECT", request="2")
    text += s3_line("100%2525", request="3") + s3_line("100%25", op="BATCH.DELETE.OBJECT", request="4")
    batch, _ = read(text, compiled=compiled)
    assert names(batch) == ["pail/café/a b".encode()] * 2 + [b"pail/100%"] * 2
    assert batch.key[0] == batch.key[1]


@BOTH
def test_a_key_that_is_no_utf8_keeps_its_bytes(compiled: bool) -> None:
    batch, account = read(s3_line("raw-KEY").encode().replace(b"KEY", b"\xff\xfe"), compiled=compiled)
    assert names(batch) == [b"pail/raw-\xff\xfe"]
    assert batch.keys.text(0) == "pail/raw-\\xff\\xfe"
    assert not account.rejected


@BOTH
def test_lines_of_two_buckets_are_two_objects_under_one_key(compiled: bool) -> None:
    batch, _ = read(s3_line("a") + s3_line("a", bucket="tub"), compiled=compiled)
    assert names(batch) == [b"pail/a", b"tub/a"]


@BOTH
def test_times_of_different_zones_are_each_read_with_their_offset_and_said_so(compiled: bool) -> None:
    line = '198.51.100.7 - - [22/Jan/2019:03:56:14 +0330] "GET /a?x=1 HTTP/1.1" 200 30 "-" "m"\n'
    text = line + line.replace("03:56:14 +0330", "00:26:14 +0000") + line.replace("03:56:14 +0330", "19:26:14 -0500")
    batch, account = read(text, compiled=compiled, name="combined")
    assert batch.time.tolist() == [1548116774.0, 1548116774.0, 1548203174.0]
    assert account.assumptions == ["the log's times are in several time zones; each was read with its own offset"]


@BOTH
def test_the_query_is_no_part_of_a_name_and_the_path_is_decoded(compiled: bool) -> None:
    text = '::1 - bob [22/Jan/2019:03:56:14 +0000] "GET /caf%C3%A9/a%20b.png?x=1 HTTP/2" 200 30 "-" "m \\"q\\" n" "-"\n'
    text += '::1 - - [22/Jan/2019:03:56:14 +0000] "HEAD http://h.example/c HTTP/1.0" 200 0 "-" "m"\n'
    text += '::1 - - [22/Jan/2019:03:56:14 +0000] "GET /d HTTP/1.1" 200 5\n'
    batch, _ = read(text, compiled=compiled, name="combined")
    assert names(batch) == ["café/a b.png".encode(), b"c", b"d"]
    assert batch.op.tolist() == [Op.READ, Op.HEAD, Op.READ]
    assert batch.agents[int(batch.agent[0])] == b'm \\"q\\" n'
    assert batch.requesters[int(batch.requester[0])] == b"bob"


@BOTH
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nonsense\n", "not a line of a S3 server access log"),
        (s3_line().split(" 200 ")[0] + "\n", "not a line of a S3 server access log"),
        (s3_line(sent="-5"), "a size is negative"),
        (s3_line(size="-5"), "a size is negative"),
        (s3_line().replace("Nov", "Nox"), "the time cannot be read"),
        (s3_line().replace("14/Nov", "45/Nov"), "the time cannot be read"),
        (s3_line(sent="9" * 30), "a figure is no number"),
    ],
)
def test_a_line_that_cannot_be_read_is_counted_and_shown_with_its_reason(
    compiled: bool, line: str, reason: str
) -> None:
    batch, account = read(s3_line() + line + "\n" + s3_line(request="2"), compiled=compiled)
    assert len(batch) == 2
    assert account.rejected == {reason: 1}
    assert account.samples[reason] == [("test.log", line.rstrip("\n")[:400])]
    assert (account.read, account.blank) == (4, 1)


@BOTH
def test_lines_that_end_in_carriage_returns_are_read(compiled: bool) -> None:
    batch, account = read((s3_line() + s3_line("b", request="2", tail="")).replace("\n", "\r\n"), compiled=compiled)
    assert names(batch) == [b"pail/a/b.bin", b"pail/b"]
    assert not account.rejected


@BOTH
def test_a_line_cut_off_after_its_bytes_is_still_an_access(compiled: bool) -> None:
    batch, account = read(s3_line().split(" 100 12 ")[0] + "\n" + s3_line(request="2"), compiled=compiled)
    assert batch.bytes.tolist() == [100.0, 100.0]
    assert batch.size.tolist() == [-1.0, 100.0]
    assert not account.rejected


@pytest.mark.parametrize("name", ["s3_access_dandi_2020.log", "s3_access_dandi_2022_hard_lines.log",
                                  "s3_access_dandi_parser_hard_lines.log"])  # fmt: skip
def test_real_hard_lines_are_all_read_and_both_ways_agree(name: str) -> None:
    data = (shared_logs() / name).read_bytes()
    plain, account = read(data, compiled=False)
    compiled, _ = read(data, compiled=True)
    assert rows(plain) == rows(compiled)
    assert len(plain) == data.count(b"\n") == account.read
    assert not account.rejected
    assert all(name.startswith(b"dandiarchive/") for name in names(plain))


def test_a_real_web_shop_log_is_read_whole_with_its_zone() -> None:
    data = (shared_logs() / "nginx_shop_combined_1000.log").read_bytes()
    plain, account = read(data, compiled=False, name="combined")
    compiled, _ = read(data, compiled=True, name="combined")
    assert rows(plain) == rows(compiled)
    assert len(plain) == 1000
    assert plain.time[0] == 1548116774.0  # 03:56:14 +0330
    assert account.operations == {"GET": 976, "POST": 14, "HEAD": 10}


TEXT = st.text(st.sampled_from('ab "\\-[]/%2C\té'), max_size=12)


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, TEXT, st.sampled_from(["200", "304", "-", "x"])), min_size=1, max_size=8))
def test_whatever_stands_in_the_fields_both_ways_account_for_every_line(
    fields: list[tuple[str, str, str, str]],
) -> None:
    text = "".join(
        s3_line(key or "k", agent=f'"{agent}"', uri=f'"GET {uri} HTTP/1.1"', sent=sent, request=str(i))
        for i, (key, agent, uri, sent) in enumerate(fields)
    )
    for compiled in (False, True):
        batch, account = read(text, compiled=compiled)
        assert account.read == len(fields)
        assert len(batch) + account.rejected.total() == len(fields)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=20), max_size=200))
def test_compiled_and_plain_numbering_of_words_are_the_same(given_words: list[bytes]) -> None:
    words = Words.of(given_words)
    plain, compiled = Interner(), Interner(compiled=True)
    for _ in range(2):
        assert plain.add_words(words).tolist() == compiled.add_words(words).tolist()
    assert plain.words().tolist() == compiled.words().tolist() == list(dict.fromkeys(given_words))


def test_numbering_holds_over_many_growths_of_its_table() -> None:
    words = Words.of(str(number * 7919 % 50_000).encode() for number in range(60_000))
    interner = Interner(compiled=True)
    ids = interner.add_words(words)
    assert len(interner) == 50_000
    assert interner.words().take(ids.astype(np.int64)).tolist() == words.tolist()


def test_the_users_own_mapping_reads_a_format_of_his_own(tmp_path: Path) -> None:
    from fabric.formats.load import read_past

    own = tmp_path / "own.toml"
    own.write_text(r"""
format = "own"
title = "own proxy log"
kind = "lines"
fields = ["[time]", "source", "operation", "key", "status", "bytes"]
least = 6
tolerant = '''
^\[(?P<time>[^]]*)\][ ](?P<source>\S+)[ ](?P<operation>\w+)[ ]
(?P<key>\S+)[ ](?P<status>\d+)[ ](?P<bytes>\d+)
'''
[operations]
FETCH = "read"
""")
    log = tmp_path / "x.log"
    log.write_text("[14/Nov/2023:22:13:20 +0000] 10.0.0.1 FETCH a%20b 200 77\n")
    past = read_past([log], mappings=[own])
    assert (past.names.tolist(), past.bytes.tolist()) == ([b"a b"], [77.0])


KEY = st.text(st.sampled_from("ab/%25fF0+é"), min_size=1, max_size=14).filter(lambda key: key != "-")


@settings(max_examples=60, deadline=None)
@given(st.lists(KEY, min_size=1, max_size=6))
def test_names_are_decoded_the_same_compiled_and_plain(keys: list[str]) -> None:
    text = "".join(s3_line(key, request=str(i), uri='"GET / HTTP/1.1"') for i, key in enumerate(keys))
    web = "".join(f'::1 - - [22/Jan/2019:03:56:14 +0000] "GET /{key} HTTP/1.1" 200 1 "-" "m"\n' for key in keys)
    for source, name in ((text, "s3_access"), (web, "combined")):
        assert names(read(source, compiled=True, name=name)[0]) == names(read(source, compiled=False, name=name)[0])
