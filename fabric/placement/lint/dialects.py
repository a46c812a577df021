"""Which dialect a document is in, and the way in and out of all four."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fabric.core.errors import BadInputError
from fabric.placement.lint.azure import read_azure
from fabric.placement.lint.gcs import read_gcs
from fabric.placement.lint.model import DIALECTS, Document
from fabric.placement.lint.node import Node, parse
from fabric.placement.lint.s3 import looks_like_minio, read_minio, read_s3
from fabric.placement.lint.writing import as_json, as_xml

_READERS: dict[str, Callable[[Node], Document]] = {
    "s3": read_s3,
    "gcs": read_gcs,
    "azure": read_azure,
    "minio": read_minio,
}


def read_document(data: bytes, file: str, dialect: str = "") -> Document:
    """Read a lifecycle document of any dialect; ``dialect`` says which where the document could be two.

    Raises:
        BadInputError: it is none; file, line or path, and what is wrong there are named.
    """
    root, xml = parse(data, file)
    chosen = dialect or _recognised(root, xml=xml)
    if xml and chosen not in ("s3", "minio"):
        raise BadInputError("only S3 and MinIO documents are XML", file=file, dialect=chosen)
    document = _READERS[chosen](root)
    if not document.rules:
        raise BadInputError("the document holds no rule", file=file, hint="a bucket without rules has no document")
    return document


def write_document(document: Document, *, xml: bool = False) -> str:
    """Return the document's text; the reader of its dialect gives the same document back."""
    return as_xml(document) if xml else as_json(document)


def read_file(path: Path, dialect: str = "") -> Document:
    """Read a lifecycle document from a file; BadInputError where it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"the document cannot be read: {error.strerror}", file=str(path)) from error
    return read_document(data, str(path), dialect)


def _recognised(root: Node, *, xml: bool) -> str:
    value = root.value
    if isinstance(value, dict):
        names = set(value)
        if xml or names & {"Rules", "LifecycleConfiguration", "config"}:
            return "minio" if looks_like_minio(root) else "s3"
        if names & {"rule", "lifecycle", "lifecycle_config"}:
            return "gcs"
        if names & {"rules", "policy", "properties"}:
            return "azure"
    raise BadInputError(
        "this is no lifecycle document of any known dialect",
        file=root.file,
        hint=f"give one of {', '.join(DIALECTS)} with --from; S3 has Rules, GCS has lifecycle.rule, Azure has rules",
    )
