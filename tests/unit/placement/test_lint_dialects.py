"""Lifecycle documents go in and out of four dialects, and what one cannot say is named."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import lint_documents as make
import pytest
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fabric.core.errors import BadInputError, TooLargeError
from fabric.placement.lint.classes import Tiers
from fabric.placement.lint.dialects import read_document, write_document
from fabric.placement.lint.model import Atom, Document, Subject, atoms
from fabric.placement.lint.translate import Context, to_dialect
from fabric.placement.lint.writing import as_data

DIALECTS = ("s3", "gcs", "azure", "minio")
CONTEXT = Context(Tiers.parse(("WARM=aws:standard_ia", "COLD-1=gcp:coldline", "AZUREARCHIVE=azure:archive")), "in")
EASY = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def said(document: Document) -> Counter[Atom]:
    return Counter(atoms(document.rules))


def again(document: Document, *, xml: bool = False) -> Document:
    return read_document(write_document(document, xml=xml).encode(), "again", document.dialect)


@cache
def request_shape() -> Any:
    model = botocore.session.get_session().get_service_model("s3")
    return model.operation_model("PutBucketLifecycleConfiguration").input_shape


def valid_for_s3(document: dict[str, Any]) -> str:
    """Validate against botocore's own service model; returns its complaints."""
    request = {"Bucket": "bucket", "LifecycleConfiguration": {"Rules": document["Rules"]}}
    if "TransitionDefaultMinimumObjectSize" in document:
        request["TransitionDefaultMinimumObjectSize"] = document["TransitionDefaultMinimumObjectSize"]
    return ParamValidator().validate(request, request_shape()).generate_report()


@pytest.mark.parametrize("dialect", DIALECTS)
@given(data=st.data())
@EASY
def test_a_document_written_and_read_again_does_the_same(dialect: str, data: st.DataObject) -> None:
    document = data.draw(make.documents(dialect))
    back = again(document)
    assert said(back) == said(document)
    assert back.small_objects == document.small_objects
    assert again(back) == back


@pytest.mark.parametrize("dialect", ["s3", "minio"])
@given(data=st.data())
@EASY
def test_the_xml_form_says_what_the_json_form_says(dialect: str, data: st.DataObject) -> None:
    document = data.draw(make.documents(dialect))
    assert said(again(document, xml=True)) == said(document)


@pytest.mark.parametrize("source", DIALECTS)
@pytest.mark.parametrize("target", DIALECTS)
@given(data=st.data())
@EASY
def test_every_action_is_either_said_in_the_other_dialect_or_named(
    source: str, target: str, data: st.DataObject
) -> None:
    document = data.draw(make.documents(source))
    translation = to_dialect(document, target, CONTEXT)
    lost = sum(parts(atom, target) for one in translation.unsaid for atom in one.atoms)
    wanted = sum(parts(atom, target) for atom in atoms(document.rules))
    assert len(atoms(translation.document.rules)) + lost == wanted
    if not translation.document.rules:
        return
    assert said(again(translation.document)) == said(translation.document)
    if target == "s3":
        assert valid_for_s3(as_data(translation.document)) == ""


def parts(atom: Atom, target: str) -> int:
    """GCS rules without isLive hold for current and noncurrent versions: two actions elsewhere."""
    return 2 if atom.action.subject is Subject.ANY and target != "gcs" else 1


@given(data=st.data())
@EASY
def test_what_is_written_for_s3_is_valid_against_the_clients_own_model(data: st.DataObject) -> None:
    assert valid_for_s3(as_data(data.draw(make.documents("s3")))) == ""


FILES = {
    "s3 from the command line": make.s3(
        make.rule("logs", Filter={"And": {"Prefix": "logs/", "Tags": [{"Key": "a", "Value": "b"}]}},
                  Transitions=make.moves((30, "STANDARD_IA"), (90, "GLACIER")), Expiration={"Days": 365}),
        make.rule("old", **make.ABORT,
                  NoncurrentVersionExpiration={"NoncurrentDays": 30, "NewerNoncurrentVersions": 3}),
        TransitionDefaultMinimumObjectSize="varies_by_storage_class",
    ),
    "gcs": make.gcs(
        ({"type": "SetStorageClass", "storageClass": "NEARLINE"}, {"age": 30, "matchesStorageClass": ["STANDARD"]}),
        ({"type": "Delete"}, {"numNewerVersions": 3, "matchesPrefix": ["a/", "b/"]}),
        ({"type": "AbortIncompleteMultipartUpload"}, {"age": 7}),
    ),
    "azure": make.azure(
        {"tierToCool": {"daysAfterLastAccessTimeGreaterThan": 30}, "enableAutoTierToHotFromCool": True,
         "tierToArchive": {"daysAfterModificationGreaterThan": 90, "daysAfterLastTierChangeGreaterThan": 7}},
        filters={"blobTypes": ["blockBlob"], "prefixMatch": ["in/logs"]},
    ),
    "minio": {"Rules": [
        make.rule("a", Transition={"Days": 30, "StorageClass": "WARM"}),
        make.rule("b", DelMarkerExpiration={"Days": 5}),
    ]},
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_document_of_a_known_form_comes_out_as_it_went_in(name: str) -> None:
    document = make.read(FILES[name])
    assert document.dialect == name.split(maxsplit=1)[0]
    assert as_data(document) == FILES[name]


def test_the_wrappings_of_the_tools_are_looked_through() -> None:
    inner = make.s3(make.rule(Expiration={"Days": 9}))
    assert said(make.read({"Bucket": "b", "LifecycleConfiguration": inner})) == said(make.read(inner))
    policy = make.azure({"delete": {"daysAfterModificationGreaterThan": 9}})
    assert make.read({"properties": {"policy": policy}, "name": "default"}).rules[0].id == "rule"
    rules = make.gcs(({"type": "Delete"}, {"age": 9}))
    assert said(make.read(rules["lifecycle"])) == said(make.read(rules))


def test_what_mc_prints_for_fields_that_are_not_there_is_not_read_as_zero() -> None:
    printed = {
        "ID": "a", "Status": "Enabled", "Prefix": "", "Filter": {"And": {}, "Prefix": "x/"},
        "Expiration": {}, "NoncurrentVersionExpiration": {"NoncurrentDays": 0},
        "Transition": {"Date": "0001-01-01T00:00:00Z", "StorageClass": "WARM", "Days": 30},
    }  # fmt: skip
    (rule,) = make.read({"Rules": [printed]}).rules
    assert rule.where.prefixes == ("x/",)
    assert [action.to for action in rule.actions] == ["WARM"]


@pytest.mark.parametrize(
    ("document", "path", "says"),
    [
        (make.s3(make.rule(Transitions=make.moves((-1, "GLACIER")))), "Rules[0].Transitions[0].Days", "-1"),
        (make.s3(make.rule(Transitions=make.moves((1, "COLD")))), "Transitions[0].StorageClass", "COLD"),
        (make.s3(make.rule(Expiration={"Days": 1, "Date": "2027-01-01T00:00:00Z"})), "Rules[0].Expiration", "together"),
        (make.s3(make.rule(Expiration={"Date": "2027-02-30T00:00:00Z"})), "Rules[0].Expiration.Date", "no such day"),
        (make.s3(make.rule(Expires={"Days": 1})), "Rules[0].Expires", "unknown"),
        (make.s3(make.rule()), "Rules[0]", "does something"),
        (make.s3({"ID": "a", "Expiration": {"Days": 1}}), "Rules[0]", "in force"),
        (
            make.s3(make.rule(Filter={"Prefix": "a", "ObjectSizeLessThan": 5}, Expiration={"Days": 1})),
            "Rules[0].Filter",
            "And",
        ),
        (make.gcs(({"type": "Delete"}, {})), "rule[0].condition", "condition"),
        (make.gcs(({"type": "Delete"}, {"agee": 3})), "rule[0].condition.agee", "unknown"),
        (make.gcs(({"type": "Delete"}, {"age": True})), "rule[0].condition.age", "whole number"),
        (make.azure({"tierToCool": {}}), "baseBlob.tierToCool", "when"),
        (make.azure({"tierToFrozen": {"daysAfterModificationGreaterThan": 1}}), "tierToFrozen", "unknown"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_document_is_named_by_its_path(document: object, path: str, says: str) -> None:
    dialect = "s3" if "Rules" in document else ""  # type: ignore[operator]
    with pytest.raises(BadInputError) as caught:
        make.read(document, dialect)
    assert str(caught.value.path).endswith(path)
    assert says in str(caught.value)


def test_what_is_wrong_in_xml_is_named_by_its_line() -> None:
    text = "<LifecycleConfiguration>\n<Rule>\n<Status>On</Status>\n</Rule>\n</LifecycleConfiguration>"
    with pytest.raises(BadInputError) as caught:
        read_document(text.encode(), "rules.xml")
    assert (caught.value.line, caught.value.path, caught.value.file) == (3, "Rules[0].Status", "rules.xml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{\n  'Rules': []}", "line=2"),
        (b"<a><b></a>", "line=1"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><LifecycleConfiguration/>", "DOCTYPE"),
        (b'{"Rules": [], "Rules": []}', "twice"),
        (b"\xff\xfe", "UTF-8"),
        (b"[" * 5000, "nested|JSON"),
        (b"<LifecycleConfiguration>" + b"<a>" * 50, "nested"),
        (b'{"Rules": []}', "no rule"),
        (b'{"hello": 1}', "no lifecycle document"),
        (b"7", "no lifecycle document"),
        (b"", "neither JSON nor XML"),
        (b"<html></html>", "no lifecycle configuration"),
    ],
)
def test_rubbish_is_refused_with_what_is_wrong(text: bytes, says: str) -> None:
    with pytest.raises(BadInputError, match=says):
        read_document(text, "rubbish")


def test_a_document_of_five_mebibytes_is_refused() -> None:
    with pytest.raises(TooLargeError):
        read_document(b" " * (5 << 20), "big")


@given(st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["Rules", "rules", "rule", "lifecycle", "ID", "Filter", "And", "Status", "Expiration", "Days",
                         "Transitions", "action", "condition", "definition", "actions", "baseBlob", "delete", "name"]),
        inner),
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_anything_else_gives_a_clear_error_and_nothing_worse(data: bytes) -> None:
    for dialect in ("", *DIALECTS):
        with suppress(BadInputError):
            read_document(data, "anything", dialect)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_good_document_with_one_part_spoilt_gives_a_clear_error_or_another_document(
    name: str, data: st.DataObject
) -> None:
    document = json.loads(json.dumps(FILES[name]))
    places = list(parts_of(document))
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = data.draw(st.sampled_from([None, {}, [], "", 0, -1, 1.5, True, "x", {"x": 1}, [None], [[]], 10**30]))
    for dialect in ("", *DIALECTS):
        with suppress(BadInputError):
            make.read(document, dialect)


def parts_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Return every place of a document, as its holder and key or index."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(item, (dict, list)):
            yield from parts_of(item)


def test_a_control_character_has_no_xml_and_says_so() -> None:
    document = make.read(make.s3(make.rule(Filter={"Prefix": "a\x01b"}, Expiration={"Days": 1})))
    with pytest.raises(BadInputError, match="control character"):
        write_document(document, xml=True)


def test_translating_to_azure_without_a_container_says_what_is_missing() -> None:
    with pytest.raises(BadInputError, match="--container"):
        to_dialect(make.read(make.s3(make.rule(Expiration={"Days": 1}))), "azure", Context())


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    from fabric.placement.lint.dialects import read_file

    with pytest.raises(BadInputError, match=r"nowhere\.json"):
        read_file(tmp_path / "nowhere.json")
