"""Files of every format become one past; what cannot be read is refused with what was seen."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fabric.core.errors import BadInputError, NotFoundError
from fabric.formats.access import Account
from fabric.formats.detect import Kind, detect
from fabric.formats.listing import read_listing
from fabric.formats.load import read_past
from fabric.formats.past import DELETE, GET, PUT, SIZED_BY
from fabric.formats.repeat import Seen
from fabric.formats.rows import read_trace
from fabric.formats.source import AccessSource
from tests.unit.formats.log_lines import START, s3_line, shared_logs

GCS_HEADER = (
    '"time_micros","c_ip","c_ip_type","c_ip_region","cs_method","cs_uri","sc_status","cs_bytes","sc_bytes",'
    '"time_taken_micros","cs_host","cs_referer","cs_user_agent","s_request_id","cs_operation","cs_bucket","cs_object"\n'
)


def gcs_row(op: str, key: str, *, uri: str = "/b", sent: int = 10, request: str = "Q", status: int = 200) -> str:
    return (
        f'"{int(START * 1e6)}","192.0.2.9","1","","GET","{uri}","{status}","0","{sent}","5","h","","agent","{request}",'
        f'"{op}","pail","{key}"\n'
    )


def names(past: Any) -> list[bytes]:
    return past.names.tolist()


# -- logs


@pytest.mark.parametrize("compiled", [False, True])
def test_a_request_delivered_twice_is_counted_once(tmp_path: Path, compiled: bool) -> None:
    lines = [s3_line(f"k{i}", request=f"R{i:05d}") for i in range(50)]
    (tmp_path / "a.log").write_text("".join(lines))
    (tmp_path / "b.log").write_text("".join(lines[:20]) + s3_line("new", request="R99999"))
    past = read_past([tmp_path], compiled=compiled)
    assert len(past) == 51
    assert (past.account.read, past.account.accepted, past.account.repeated) == (71, 51, 20)
    assert past.account.balanced


def test_one_request_that_deletes_many_keys_is_no_repeat(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(s3_line(k, op="BATCH.DELETE.OBJECT", status="204", request="ONE") for k in "abc"))
    assert read_past([log]).op.tolist() == [DELETE] * 3


def test_two_answers_to_one_request_are_both_kept(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(s3_line(status="304", sent="-") + s3_line(status="200"))
    assert read_past([log]).bytes.tolist() == [0.0, 100.0]


def test_a_file_given_twice_under_two_names_is_read_once(tmp_path: Path) -> None:
    text = '::1 - - [22/Jan/2019:03:56:14 +0000] "GET /a HTTP/1.1" 200 30 "-" "m"\n' * 3
    (tmp_path / "a.log").write_text(text)
    (tmp_path / "copy.log").write_text(text)
    past = read_past([tmp_path, str(tmp_path / "*.log")])
    assert len(past) == 3
    assert "copy.log has the bytes of an earlier file and was left out" in past.assumptions


@pytest.mark.parametrize("compiled", [False, True])
def test_repeats_are_forgotten_after_a_bounded_number_of_requests(compiled: bool) -> None:
    seen = Seen(compiled=compiled, marks_most=100)
    marks = np.arange(1, 301, dtype=np.uint64)
    for part in range(0, 300, 50):
        assert seen.fresh(marks[part : part + 50]).all()
    assert not seen.fresh(marks[200:250]).any()  # within the last hundred
    assert seen.fresh(marks[:50]).all()  # long ago
    assert seen.forgotten >= 100
    assert seen.fresh(np.array([0, 0, 7, 7], dtype=np.uint64)).tolist()[:2] == [True, True]


def test_compiled_and_plain_memory_of_requests_agree() -> None:
    rng = np.random.default_rng(1)
    plain, compiled = Seen(), Seen(compiled=True)
    for _ in range(20):
        marks = rng.integers(0, 30_000, 4_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        assert plain.fresh(marks).tolist() == compiled.fresh(marks).tolist()


@pytest.mark.parametrize("compiled", [False, True])
def test_blocks_cut_anywhere_lose_no_line(tmp_path: Path, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from fabric.formats import files, source

    log = tmp_path / "a.log.gz"
    log.write_bytes(gzip.compress("".join(s3_line(f"k{i}", request=f"{i}") for i in range(500)).encode()))
    monkeypatch.setattr(source, "blocks", lambda path: files.blocks(path, 700))
    monkeypatch.setattr(files, "LINE_BYTES_MOST", 2_000)
    assert len(read_past([log], compiled=compiled)) == 500


def test_a_truncated_gzip_is_refused_by_name(tmp_path: Path) -> None:
    whole = gzip.compress("".join(s3_line(f"{i}" * 9, request=str(i)) for i in range(3000)).encode())
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputError, match=r"gzip file is cut off.*cut\.gz"):
        read_past([tmp_path / "cut.gz"])


def test_a_truncated_gzip_table_is_refused_by_name(tmp_path: Path) -> None:
    rows = "".join(gcs_row("GET_Object", f"k{i * 7919 % 10007}", request=str(i)) for i in range(30_000))
    whole = gzip.compress((GCS_HEADER + rows).encode())
    (tmp_path / "cut.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInputError, match=r"(cut off|damaged).*cut\.csv\.gz"):
        read_past([tmp_path / "cut.csv.gz"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"ORC\x00\x01", "ORC, which is not read"),
        (b"PK\x03\x04rest", "a ZIP archive"),
        (b"BZh9", "a bzip2 file"),
        (b"", "the file is empty"),
        ("x,y\n1,2\n".encode("utf-16"), "no UTF-8 text"),
        (b"Date,Visitor,Page\n1,2,3\n", "columns are those of no known format.*columns=Date, Visitor, Page"),
        (b"hello world\n", "format is not known.*seen=hello world"),
        (b'{"a": 1, "b": 2}', "format is not known.*seen=keys a, b"),
        (b'"pail","a/b.bin","100"\n"pail","c","7"\n', "rows of an S3 inventory.*manifest.json"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_what_was_seen(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_past([tmp_path / "x"])


def test_an_inventory_given_as_a_log_is_refused_with_the_right_option(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("Name,Content-Length\na,1\n")
    with pytest.raises(BadInputError, match=r"no access log but: Azure blob inventory.*--inventory"):
        read_past([tmp_path / "x.csv"])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no such file"):
        read_past([tmp_path / "none*.log"])
    with pytest.raises(NotFoundError, match="holds no file"):
        read_past([tmp_path])


def test_a_log_without_any_object_says_what_it_has_instead(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(s3_line("-", op="REST.GET.BUCKET") + s3_line(status="403"))
    with pytest.raises(BadInputError, match="no read, write or delete"):
        read_past([tmp_path / "a.log"])


def test_failed_requests_lists_and_heads_are_counted_apart(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        s3_line() + s3_line(status="404", request="2") + s3_line("-", op="REST.GET.BUCKET", request="3")
        + s3_line(op="REST.HEAD.OBJECT", request="4") + s3_line(op="REST.GET.ACL", request="5")
    )  # fmt: skip
    past = read_past([log])
    assert past.left_out == {
        "failed requests": 1, "without an object": 0, "heads": 1, "lists": 1, "other operations": 1,
    }  # fmt: skip
    assert past.account.accepted == len(past) + sum(past.left_out.values())


def test_sizes_come_from_the_log_or_the_largest_read_and_it_is_said(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        s3_line("stated", sent="10", size="50", status="206") + s3_line("whole", sent="70", size="-", request="2")
        + s3_line("whole", sent="30", size="-", request="3", status="206")
        + s3_line("part", sent="30", size="-", request="4", status="206")
        + s3_line("empty", sent="-", size="-", status="304", request="5")
    )  # fmt: skip
    past = read_past([log])
    sized = {
        name: (int(size), SIZED_BY[by])
        for name, size, by in zip(names(past), past.whole_size, past.sized_by, strict=True)
    }
    assert sized == {
        b"pail/stated": (50, "the log's object size"),
        b"pail/whole": (70, "the largest whole read"),
        b"pail/part": (30, "the largest partial read"),
        b"pail/empty": (0, "nothing"),
    }
    assert past.size.tolist() == [50, 70, 70, 30, 0]
    assert len([a for a in past.assumptions if "sized by" in a or "no known size" in a]) == 4


def test_requesters_are_named_and_the_anonymous_by_their_address(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(s3_line(requester="arn:x") + s3_line(source="198.51.100.1", request="2"))
    past = read_past([log])
    assert [past.requesters[i] for i in past.who.tolist()] == [b"arn:x", b"198.51.100.1"]
    assert [past.addresses[i] for i in past.address.tolist()] == [b"192.0.2.3", b"198.51.100.1"]


# -- CloudTrail


def event(name: str, **more: Any) -> dict[str, Any]:
    return {
        "eventName": name, "eventSource": "s3.amazonaws.com", "eventTime": "2023-11-14T22:13:20Z", "eventID": name,
        "managementEvent": False, "requestParameters": {"bucketName": "pail", "key": "a b"},
        "additionalEventData": {"bytesTransferredOut": 40, "bytesTransferredIn": 7}, "sourceIPAddress": "1.2.3.4",
        "userIdentity": {"arn": "arn:u"}, **more,
    }  # fmt: skip


def test_cloudtrail_data_events_are_reads_and_writes(tmp_path: Path) -> None:
    records = [event("PutObject"), event("GetObject"), event("GetObject"), event("DeleteObject"), {"eventName": "X"}]
    records.append(event("GetObject", eventID="denied", errorCode="AccessDenied"))
    (tmp_path / "t.json.gz").write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))
    past = read_past([tmp_path / "t.json.gz"])
    assert past.op.tolist() == [PUT, GET, DELETE]
    assert past.size.tolist() == [7, 7, 7]
    assert past.bytes.tolist() == [0.0, 40.0, 0.0]
    assert names(past) == [b"pail/a b"]
    assert (past.account.repeated, past.left_out["failed requests"], past.origin) == (1, 1, 1699920000.0)


def test_cloudtrail_one_event_a_line_is_read_too(tmp_path: Path) -> None:
    lines = [json.dumps(event("GetObject", eventID=str(i))) for i in range(3)]
    (tmp_path / "t.jsonl").write_text("\n".join(lines) + "\n{broken\n")
    past = read_past([tmp_path / "t.jsonl"])
    assert len(past) == 3
    assert past.account.rejected == {"not a CloudTrail event": 1}


def test_a_trail_of_management_events_only_says_that_it_holds_no_reads() -> None:
    with pytest.raises(BadInputError, match="management events only: no read of an object"):
        read_past([shared_logs() / "cloudtrail_s3_management_only.json"])


def test_real_cloudtrail_data_events_are_read() -> None:
    past = read_past([shared_logs() / "cloudtrail_s3_data_events.json"])
    assert (past.account.read, len(past), past.left_out["lists"]) == (11, 2, 7)
    assert past.account.balanced


# -- GCS usage logs


def test_gcs_usage_logs_tell_content_from_metadata(tmp_path: Path) -> None:
    text = GCS_HEADER + gcs_row("GET_Object", "a,b", sent=10, request="1")
    text += gcs_row("storage.objects.get", "a", request="2") + gcs_row("storage.objects.delete", "a", request="4")
    text += gcs_row("storage.objects.get", "a", uri="/storage/v1/b/pail/o/a?alt=media", sent=30, request="3")
    (tmp_path / "pail_usage_2023").write_text(text + "too,few,columns\n")
    past = read_past([tmp_path / "pail_usage_2023"])
    assert past.op.tolist() == [GET, DELETE, GET]
    assert past.bytes.tolist() == [10.0, 0.0, 30.0]
    assert past.left_out["heads"] == 1
    assert names(past) == [b"pail/a,b", b"pail/a"]
    assert past.account.rejected == {"a row has the wrong number of columns": 1}
    assert past.account.balanced


def test_a_table_with_bad_figures_rejects_those_rows(tmp_path: Path) -> None:
    text = GCS_HEADER + gcs_row("GET_Object", "a") + gcs_row("GET_Object", "b", sent=-4, request="2")
    text += gcs_row("GET_Object", "c", request="3").replace(str(int(START * 1e6)), "yesterday")
    (tmp_path / "u.csv").write_text(text)
    past = read_past([tmp_path / "u.csv"])
    assert names(past) == [b"pail/a"]
    assert past.account.rejected == {"a size is negative": 1, "the time cannot be read": 1}


# -- Parquet traces


def trace_file(path: Path, **change: list[int]) -> Path:
    columns = {"t": [0, 5, 90_000], "obj": [7, 7, 9], "size": [10, 10, 3], "op": [0, 1, 2], "n": [1, 4, 1],
               "bytes": [10, 40, 0]} | change  # fmt: skip
    pq.write_table(pa.table(columns), path)
    return path


def test_a_parquet_trace_keeps_its_own_clock_numbers_and_counts(tmp_path: Path) -> None:
    past = read_past([trace_file(tmp_path / "t.parquet")])
    assert (past.time.tolist(), past.count.tolist(), past.op.tolist()) == (
        [0, 5, 90_000],
        [1, 4, 1],
        [PUT, GET, DELETE],
    )
    assert (names(past), past.origin) == ([b"7", b"9"], 0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": [10, -1, 3]}, "negative or missing size.*row=1"),
        ({"n": [1, 4, -1]}, "negative or missing n.*row=2"),
        ({"op": [0, 1, 5]}, "unknown op.*row=2"),
    ],
)
def test_a_trace_with_an_impossible_row_is_refused_with_its_number(
    tmp_path: Path, change: dict[str, list[int]], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        list(read_trace(trace_file(tmp_path / "t.parquet", **change), Account()))


def test_a_damaged_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    path = trace_file(tmp_path / "t.parquet")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadInputError, match="Parquet file is damaged"):
        read_past([path])


def test_the_development_traces_are_read_whole() -> None:
    folder = shared_logs().parent / "traces" / "dev"
    expected = {"sundials_releases": 40_109, "dandi_datasets": 95_906, "cloudphysics_4MiB_extents": 113_872}
    for name, rows in expected.items():
        source = AccessSource([folder / f"{name}.parquet"])
        assert sum(len(batch) for batch in source) == rows == source.account.accepted


# -- inventories

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, StorageClass"
INVENTORY_ROWS = [
    ("pail", "a/b.bin", "v1", "true", "false", "100", "2023-11-01T00:00:00.000Z", "STANDARD"),
    ("pail", "caf%C3%A9/x%20y", "v2", "true", "false", "50", "2023-11-02T00:00:00.000Z", "GLACIER_IR"),
    ("pail", "a/b.bin", "v0", "false", "false", "30", "2023-10-01T00:00:00.000Z", "STANDARD"),
    ("pail", "gone", "v9", "true", "true", "", "2023-11-03T00:00:00.000Z", ""),
]


def inventory(
    root: Path, rows: list[tuple[str, ...]] = INVENTORY_ROWS, *, form: str = "CSV", schema: str = SCHEMA
) -> Path:
    """Lay out an S3 inventory as S3 delivers it; return the manifest."""
    data = root / "pail" / "weekly" / "data"
    data.mkdir(parents=True)
    file = data / ("part.csv.gz" if form == "CSV" else "part.parquet")
    if form == "CSV":
        text = "".join(",".join(f'"{field}"' for field in row) + "\n" for row in rows)
        file.write_bytes(gzip.compress(text.encode()))
    else:
        pq.write_table(parquet_inventory(rows), file)
    manifest = root / "pail" / "weekly" / "2023-11-05T01-00Z" / "manifest.json"
    manifest.parent.mkdir()
    md5 = hashlib.md5(file.read_bytes()).hexdigest()
    body = {"sourceBucket": "pail", "fileFormat": form, "fileSchema": schema, "creationTimestamp": "1699146000000",
            "files": [{"key": f"pail/weekly/data/{file.name}", "size": 1, "MD5checksum": md5}]}  # fmt: skip
    manifest.write_text(json.dumps(body))
    return manifest


def parquet_inventory(rows: list[tuple[str, ...]]) -> pa.Table:
    from urllib.parse import unquote

    stamps = [np.datetime64(row[6].removesuffix("Z")).astype("datetime64[ms]") for row in rows]
    return pa.table(
        {
            "bucket": [row[0] for row in rows],
            "key": [unquote(row[1]) for row in rows],
            "version_id": [row[2] for row in rows],
            "is_latest": [row[3] == "true" for row in rows],
            "is_delete_marker": [row[4] == "true" for row in rows],
            "size": pa.array([int(row[5]) if row[5] else None for row in rows], pa.int64()),
            "last_modified_date": pa.array(np.array(stamps), pa.timestamp("ms")).cast(pa.timestamp("ms", "UTC")),
            "storage_class": [row[7] for row in rows],
        }
    )


@pytest.mark.parametrize("form", ["CSV", "Parquet"])
def test_an_s3_inventory_lists_current_objects_and_counts_the_others(tmp_path: Path, form: str) -> None:
    listing = read_listing([inventory(tmp_path, form=form)])
    assert listing.names.tolist() == [b"pail/a/b.bin", "pail/café/x y".encode()]
    assert listing.size.tolist() == [100.0, 50.0]
    assert [listing.classes[i] for i in listing.storage_class] == ["standard", "glacier_instant"]
    assert (listing.old_versions, listing.old_bytes, listing.markers) == (1, 30.0, 1)
    assert (listing.date, listing.provider) == (1699146000.0, "aws")
    assert listing.modified.tolist() == [1698796800.0, 1698883200.0]
    assert "1 versions that are not current (30 bytes)" in listing.account.assumptions[0]


def test_an_orc_inventory_is_refused_by_name(tmp_path: Path) -> None:
    manifest = inventory(tmp_path)
    manifest.write_text(manifest.read_text().replace('"CSV"', '"ORC"'))
    with pytest.raises(BadInputError, match=r"ORC, which is not read.*Parquet or CSV"):
        read_listing([manifest])


def test_an_inventory_with_a_missing_file_is_refused(tmp_path: Path) -> None:
    manifest = inventory(tmp_path)
    (tmp_path / "pail" / "weekly" / "data" / "part.csv.gz").unlink()
    with pytest.raises(NotFoundError, match="manifest names is not there"):
        read_listing([manifest])


def test_an_inventory_file_that_changed_is_refused(tmp_path: Path) -> None:
    manifest = inventory(tmp_path)
    with (tmp_path / "pail" / "weekly" / "data" / "part.csv.gz").open("ab") as file:
        file.write(gzip.compress(b"more"))
    with pytest.raises(BadInputError, match="MD5 differs"):
        read_listing([manifest])


def test_an_inventory_without_sizes_says_which_field_to_add(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="add Size to the inventory"):
        read_listing([inventory(tmp_path, schema="Bucket, Key, VersionId")])


@pytest.mark.parametrize("size", ["-5", ""])
def test_a_negative_or_missing_size_in_an_inventory_is_refused_with_its_key(tmp_path: Path, size: str) -> None:
    rows = [(*INVENTORY_ROWS[0][:5], size, *INVENTORY_ROWS[0][6:])]
    with pytest.raises(BadInputError, match=r"size that is negative or missing.*key=a/b\.bin"):
        read_listing([inventory(tmp_path, rows)])


@pytest.mark.parametrize(
    ("other", "expected", "said"),
    [("m%20n", b"pail/c+d", False), ("m%2Bn", b"pail/c d", False), ("m", b"pail/c+d", True)],
)
def test_a_plus_sign_in_an_inventory_is_read_by_how_its_other_names_are_written(
    tmp_path: Path, other: str, expected: bytes, said: bool
) -> None:
    rows = [(INVENTORY_ROWS[0][0], key, *INVENTORY_ROWS[0][2:]) for key in ("c+d", other)]
    listing = read_listing([inventory(tmp_path, rows)])
    assert listing.names[0] == expected
    assert any("plus sign" in sentence for sentence in listing.account.assumptions) is said


def test_keys_with_quotes_newlines_and_raw_bytes_survive_an_inventory(tmp_path: Path) -> None:
    rows = [(INVENTORY_ROWS[0][0], key, *INVENTORY_ROWS[0][2:]) for key in ('q""q', "new%0Aline", "%FF%FE")]
    listing = read_listing([inventory(tmp_path, rows)])
    assert listing.names.tolist() == [b'pail/q"q', b"pail/new\nline", b"pail/\xff\xfe"]


def test_log_and_inventory_meet_on_one_name(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(s3_line("caf%25C3%25A9/x%2520y", at=1699146000.0 - 5 * 86400) + s3_line("other", request="2"))
    past = read_past([log], [inventory(tmp_path)])
    assert past.obj.tolist() == [1, 2]
    assert past.listed_size.tolist() == [100, 50, -1]
    assert past.whole_size.tolist() == [100, 50, 100]
    assert (past.listed_time, past.origin, past.provider) == (1699146000.0 - past.origin, 1698710400.0, "aws")
    assert any("1 objects of the log are not in the inventory" in sentence for sentence in past.assumptions)


def test_a_log_of_another_bucket_is_pointed_out(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(s3_line(bucket="tub"))
    past = read_past([tmp_path / "a.log"], [inventory(tmp_path)])
    assert any("no object of the log is in the inventory" in sentence for sentence in past.assumptions)


def test_an_inventory_alone_is_a_past_without_reads(tmp_path: Path) -> None:
    past = read_past([], [inventory(tmp_path)])
    assert (len(past), past.objects, past.listed_size.tolist()) == (0, 2, [100, 50])


AZURE = "Name,Creation-Time,Last-Modified,Content-Length,AccessTier,LastAccessTime,IsCurrentVersion,Snapshot,Deleted\n"


def test_an_azure_inventory_gives_last_access_times_and_tiers(tmp_path: Path) -> None:
    rows = (
        "box/a b,2023-01-01T00:00:00.0000000Z,2023-02-01T00:00:00.0000000Z,10,Hot,2023-03-01T00:00:00.1234567Z,true,,\n"
    )
    rows += "box/c,2023-01-01T00:00:00Z,2023-02-01T00:00:00Z,20,Cool,,,,\n"
    rows += "box/c,2023-01-01T00:00:00Z,2023-02-01T00:00:00Z,7,Cool,,,2023-02-02T00:00:00.0Z,\n"
    rows += "box/d,2023-01-01T00:00:00Z,2023-02-01T00:00:00Z,8,Cool,,,,true\n"
    (tmp_path / "inv.csv").write_text(AZURE + rows)
    manifest = {"files": [{"blob": "2023/03/02/rule/inv.csv", "size": 1}], "inventoryStartTime": "2023-03-02T00:00:00Z"}
    (tmp_path / "m.json").write_text(json.dumps(manifest))
    for given in (tmp_path / "m.json", tmp_path / "inv.csv"):
        listing = read_listing([given])
        assert listing.names.tolist() == [b"box/a b", b"box/c"]
        assert listing.last_access[0] == pytest.approx(1677628800.123456)
        assert np.isnan(listing.last_access[1])
        assert [listing.classes[i] for i in listing.storage_class] == ["hot", "cool"]
        assert (listing.old_versions, listing.old_bytes, listing.provider) == (2, 15.0, "azure")
    assert read_listing([tmp_path / "m.json"]).date == 1677715200.0


def test_an_azure_inventory_in_parquet_is_the_same(tmp_path: Path) -> None:
    table = pa.table({"Name": ["box/a"], "Content-Length": [10], "Last-Modified": [1675209600000],
                      "LastAccessTime": [1677628800000], "AccessTier": ["Hot"]})  # fmt: skip
    pq.write_table(table, tmp_path / "inv.parquet")
    listing = read_listing([tmp_path / "inv.parquet"])
    assert (listing.modified[0], listing.last_access[0], listing.size[0]) == (1675209600.0, 1677628800.0, 10.0)


def test_times_without_a_zone_among_others_are_read_as_utc_and_said_so(tmp_path: Path) -> None:
    (tmp_path / "i.csv").write_text(
        "Name,Content-Length,Last-Modified\na,1,2023-02-01T00:00:00\nb,1,2023-02-01T02:00:00+02:00\n"
    )
    listing = read_listing([tmp_path / "i.csv"])
    assert listing.modified.tolist() == [1675209600.0, 1675209600.0]
    assert "times without a zone are read as UTC" in listing.account.assumptions


def test_every_real_sample_is_told_apart_by_its_content(tmp_path: Path) -> None:
    expected = {
        "s3_access_dandi_2020.log": Kind.LINES, "nginx_shop_combined_1000.log": Kind.LINES,
        "cloudtrail_s3_data_events.json": Kind.CLOUDTRAIL,
    }  # fmt: skip
    for name, kind in expected.items():
        copy = tmp_path / "no-name"
        copy.write_bytes(gzip.compress((shared_logs() / name).read_bytes()))
        assert detect(copy).kind is kind
    with pytest.raises(BadInputError, match="columns=Event Type, Event Name"):
        detect(shared_logs() / "s3_honeybucket_events.csv")


@pytest.mark.parametrize("compiled", [False, True])
def test_many_small_files_are_read_together_and_each_rejected_line_names_its_own(
    tmp_path: Path, compiled: bool
) -> None:
    for i in range(300):
        bad = "rubbish\n" if i == 123 else ""
        end = "" if i % 2 else "\n"  # some files end without a newline
        (tmp_path / f"f{i:03d}.log").write_text(
            bad + s3_line(f"k{i % 7}", at=START + i, request=f"{i}").rstrip("\n") + end
        )
    source = AccessSource([tmp_path], compiled=compiled)
    batches = list(source)
    assert len(batches) == 1
    assert sum(map(len, batches)) == 300
    assert source.account.samples == {"not a line of a S3 server access log": [("f123.log", "rubbish")]}
    assert source.account.balanced


def test_files_of_two_formats_in_one_folder_keep_their_order(tmp_path: Path) -> None:
    web = '::1 - - [22/Jan/2019:03:56:14 +0000] "GET /web{} HTTP/1.1" 200 30 "-" "m"\n'
    for i in range(6):
        (tmp_path / f"{i}.log").write_text(s3_line(f"s3-{i}", request=f"{i}") if i % 3 else web.format(i))
    past = read_past([tmp_path])
    expected = [b"web0", b"pail/s3-1", b"pail/s3-2", b"web3", b"pail/s3-4", b"pail/s3-5"]
    assert [past.names[i] for i in past.obj.tolist()] == expected


def test_a_hostile_line_takes_no_time_that_matters(tmp_path: Path) -> None:
    hostile = '" 200 - 1 1 1 1 "' * 400 + '" "' * 1500
    (tmp_path / "a.log").write_text("".join(s3_line(agent=f'"{hostile}', request=f"{i}") for i in range(3)) + s3_line())
    past = read_past([tmp_path / "a.log"])
    assert past.account.balanced
    assert past.account.read == 4


def test_rubbish_methods_do_not_fill_the_account(tmp_path: Path) -> None:
    line = '::1 - - [22/Jan/2019:03:56:14 +0000] "{} /a HTTP/1.1" {} 30 "-" "m"\n'
    rubbish = "".join(line.format(f"X{i}", 400) for i in range(1500))
    (tmp_path / "a.log").write_text(line.format("GET", 200) + rubbish)
    past = read_past([tmp_path / "a.log"])
    assert past.account.operations["others"] == 501
    assert past.account.operations.total() == 1501
    assert len(past.account.as_json()["operations"]) == 40
    assert past.left_out["other operations"] == 1500


def test_an_inventory_of_many_names_is_numbered_the_same_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fabric.formats import load

    manifest = inventory(tmp_path)
    plain = read_past([], [manifest])
    monkeypatch.setattr(load, "COMPILE_FROM_OBJECTS", 1)
    compiled = read_past([], [manifest])
    assert names(plain) == names(compiled)
    assert plain.listed_size.tolist() == compiled.listed_size.tolist()
