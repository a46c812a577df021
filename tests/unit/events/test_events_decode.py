"""What POST /api/events accepts, and the one clear error for each misfortune."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.errors import BadInputError, TooLargeError
from fabric.events import build, codec
from fabric.events.batch import Op
from fabric.events.build import access_batch, join, pick
from fabric.events.decode import BYTES_MOST, ROWS_MOST, decode_columns, decode_ndjson

TWO = {"time": [1_700_000_000, 1_700_000_001.5], "key": ["a/b", "c"], "op": ["read", "PUT"], "bytes": [10, 20]}


def columns(**changed: object) -> bytes:
    return json.dumps({**TWO, **changed}).encode()


def test_columns_become_a_batch_with_what_is_unknown_marked_unknown() -> None:
    batch = decode_columns(columns())

    assert batch.key == ["a/b", "c"]
    assert batch.time.tolist() == [1_700_000_000.0, 1_700_000_001.5]
    assert batch.op.tolist() == [Op.READ, Op.WRITE]
    assert batch.count.tolist() == [1, 1]
    assert batch.size.tolist() == [-1, -1]
    assert np.isnan(batch.latency_ms).all()
    assert batch.who == ["", ""]
    assert (batch.source, batch.priority) == ("api", 1)


def test_times_may_be_iso_strings_and_operations_numbers() -> None:
    batch = decode_columns(columns(time=["2023-11-14T22:13:20Z", "2023-11-14T23:13:21.5+01:00"], op=[1, 3]))

    assert batch.time.tolist() == TWO["time"]
    assert batch.op.tolist() == [Op.READ, Op.DELETE]


def test_a_time_without_zone_is_utc() -> None:
    batch = decode_columns(columns(time=["2023-11-14T22:13:20", 1_700_000_001.5]))

    assert batch.time.tolist() == TWO["time"]


def test_lines_give_the_same_batch_as_columns() -> None:
    rows = [dict(zip(TWO, row, strict=True)) for row in zip(*TWO.values(), strict=True)]
    body = "\n".join(map(json.dumps, rows)) + "\n\n"

    assert codec.encode(decode_ndjson(body.encode())) == codec.encode(decode_columns(columns()))


def test_optional_columns_are_kept() -> None:
    batch = decode_columns(
        columns(count=[3, 1], size=[5, None], latency_ms=[None, 2.5], store=["s", ""], who=["w", "x"], priority="high")
    )

    assert batch.count.tolist() == [3, 1]
    assert batch.size.tolist() == [5, -1]
    assert math.isnan(batch.latency_ms[0])
    assert batch.latency_ms[1] == 2.5
    assert (batch.store, batch.who, batch.priority) == (["s", ""], ["w", "x"], 0)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"x" * 1_000_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"time":[NaN],"key":["a"],"op":[1],"bytes":[1]}', "NaN"),
        (columns(bytes=[1]), "column bytes has another length"),
        (columns(time=[1]), "column time has another length"),
        (columns(who=["a", "b", "c"]), "column who has another length"),
        (columns(bytes=[1, -1]), "column bytes is impossible"),
        (columns(bytes=[1, 1e300]), "column bytes is impossible"),
        (columns(time=[-5, 1]), "column time is impossible"),
        (columns(time=[1_700_000_000_000, 1]), "not milliseconds"),
        (columns(time=["yesterday", 1]), "neither UTC seconds nor ISO 8601"),
        (columns(count=[0, 1]), "column count is impossible"),
        (columns(status=[70_000, 1]), "column status is impossible"),
        (columns(latency_ms=[-1, 1]), "column latency_ms is impossible"),
        (columns(key=["", "a"]), "a key is empty"),
        (columns(key=["a/../b", "a"]), "a segment . or .."),
        (columns(key=["..", "a"]), "a segment . or .."),
        (columns(key=["/a", "a"]), "an empty segment"),
        (columns(key=["a//b", "a"]), "an empty segment"),
        (columns(key=["a\0b", "a"]), "a NUL"),
        (columns(key=["é" * 600, "a"]), "longer than 1024 bytes"),
        (columns(who=["a\0b", "a"]), "a NUL"),
        (columns(op=["rename", "read"]), "operation is not known"),
        (columns(op=[9, 1]), "operation is not known"),
        (columns(priority=7), "priority is not known"),
        (columns(colour=["red", "blue"]), "colour"),
        (b'{"key":["a"],"op":[1],"bytes":[1]}', "time"),
        (b"[]", "not as asked"),
        (columns(key=["a", "b"]).replace(b'"b"', b'"\\ud800"'), "not JSON"),
    ],
)
def test_each_fault_gets_one_error_that_names_it(body: bytes, said: str) -> None:
    with pytest.raises(BadInputError) as caught:
        decode_columns(body)

    assert said in str(caught.value)
    assert caught.value.hint


@given(st.lists(st.text(st.sampled_from("a./\n\0é"), max_size=8), min_size=1, max_size=5))
def test_keys_searched_as_one_text_are_judged_as_each_alone(keys: list[str]) -> None:
    faults = [build._key_fault(key) for key in keys]
    try:
        build.check_keys(keys)
    except BadInputError as error:
        row = error.context["row"]
        assert isinstance(row, int)
        assert faults[row]
        assert not any(faults[:row])
    else:
        assert not any(faults)


def test_a_fault_names_its_row() -> None:
    with pytest.raises(BadInputError) as caught:
        decode_columns(columns(bytes=[1, -7]))

    assert (caught.value.column, caught.value.row, caught.value.value) == ("bytes", 1, -7.0)


def test_a_bad_line_is_named_by_its_number() -> None:
    good = b'{"time":1,"key":"a","op":"get","bytes":1}\n'

    with pytest.raises(BadInputError, match="line 2"):
        decode_ndjson(good + b"nonsense\n" + good)


def test_more_rows_or_bytes_than_the_bound_are_refused() -> None:
    rows = ROWS_MOST + 1
    body = {"time": [1] * rows, "key": ["a"] * rows, "op": [1] * rows, "bytes": [1] * rows}

    with pytest.raises(TooLargeError, match="too many events"):
        decode_columns(json.dumps(body).encode())
    with pytest.raises(TooLargeError, match="too many bytes"):
        decode_columns(b" " * (BYTES_MOST + 1))
    with pytest.raises(TooLargeError, match="too many bytes"):
        decode_ndjson(b" " * (BYTES_MOST + 1))


def test_an_empty_batch_is_a_batch() -> None:
    assert len(decode_columns(b'{"time":[],"key":[],"op":[],"bytes":[]}')) == 0
    assert len(decode_ndjson(b"\n")) == 0


def test_a_batch_survives_the_log_codec() -> None:
    batch = access_batch(
        [1.5, 2.5, 2.5],
        ["a", "ü/漢", "a"],
        [1, 2, 1],
        [0, 2**52 + 1, 1],
        latency_ms=[float("nan"), 1, 2],
        who=["x", "x", "x"],
        source="import",
    )
    again = codec.decode(codec.encode(batch))

    assert codec.encode(again) == codec.encode(batch)
    assert again.key == batch.key
    assert again.bytes.tolist() == batch.bytes.tolist()
    assert again.who == ["x", "x", "x"]
    assert again.source == "import"


def test_picking_and_joining_keep_rows_whole() -> None:
    batch = access_batch([1, 2, 3], ["a", "b", "c"], [1, 2, 3], [10, 20, 30], who=["x", "y", "z"])
    joined = join([pick(batch, np.array([True, False, True])), pick(batch, np.array([False, True, False]))])

    assert joined.key == ["a", "c", "b"]
    assert joined.who == ["x", "z", "y"]
    assert joined.bytes.tolist() == [10, 30, 20]
