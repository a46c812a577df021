"""The HTTP interface as an OpenAPI 3.1 document, the object API of the data plane included."""

from __future__ import annotations

from functools import cache
from typing import Any

from fabric.runtime.component import SECTIONS

_KEY = {"name": "key", "in": "path", "required": True, "schema": {"type": "string"}, "description": "may hold slashes"}
_WRITE_HEADERS = {
    "X-Fabric-Class": "classification: confidential, restricted, sensitive, private or public",
    "X-Fabric-Criticality": "critical, normal or low",
    "X-Fabric-Latency": "critical, standard, flexible or any",
    "If-Match": "quoted version id the object must have",
    "If-None-Match": "* to create only",
    "Idempotency-Key": "repeat with the same one after a 504",
}


@cache
def document() -> dict[str, Any]:
    """Return the document; the same object every time, not to be changed."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Intelligent Data Fabric",
            "version": "1.0.0",
            "description": "Reading on loopback is free; every change needs a bearer token (the field token of "
            "engine.json in the data folder) or the page's session.",
        },
        "paths": {**_dashboard_paths(), **_replay_paths(), **_plane_paths()},
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Problem": _problem(), "Section": {"type": "object"}, "Page": _page()},
            "responses": {"problem": _content("what went wrong", _ref("Problem"), "application/problem+json")},
        },
    }


def _dashboard_paths() -> dict[str, Any]:
    cursor = [_query("search"), _query("cursor"), _query("limit", "integer")]
    section = {**_path("section"), "schema": {"type": "string", "enum": list(SECTIONS)}}
    return {
        "/": {"get": _operation("The dashboard", "page", _content("page", {"type": "string"}, "text/html"))},
        "/healthz": {"get": _operation("Whether this process answers", "healthz")},
        "/readyz": {"get": _operation("Whether requests can be served", "readyz")},
        "/metrics": {
            "get": _operation(
                "Figures for Prometheus", "prometheus", _content("text", {"type": "string"}, "text/plain")
            )
        },
        "/api/status": {
            "get": _operation(
                "All seven sections; with trace one object's nine stages",
                "status",
                _content("sections by name", _status()),
                [_query("trace", description="key or version id")],
            )
        },
        "/api/metrics": {"get": _operation("Every latest measure", "metrics")},
        "/api/session": {"get": _operation("Who the caller is and what he may order", "session")},
        "/api/sample": {"get": _operation("What is real and what is made up in the sample world", "sample")},
        "/api/openapi.json": {"get": _operation("This document", "openapi")},
        "/api/pages/{section}/{kind}": {
            "get": _operation(
                "One page behind a card", "page_of", _content("page", _ref("Page")), [section, _path("kind"), *cursor]
            )
        },
        "/api/explain/{key}": {"get": _operation("What every component did with an object", "explain", None, [_KEY])},
        "/api/acts/{act}": {"post": _act()},
    }


def _act() -> dict[str, Any]:
    operation = _operation("Approve, roll back, acknowledge, freeze ...", "act", None, [_path("act")])
    body = {"required": False, "content": {"application/json": {"schema": {"type": "object"}}}}
    return {**operation, "requestBody": body, "security": [{"token": []}]}


def _replay_paths() -> dict[str, Any]:
    page = {"/time-machine": "The time machine", "/time-machine/{replay}": "One replay's result"}
    html = _content("page", {"type": "string"}, "text/html")
    locked: dict[str, Any] = {"security": [{"token": []}]}
    upload, replay = _path("upload"), _path("replay")
    file = _operation("Send one file of an upload", "send_replay_file", None, [upload, _path("role"), _path("name")])
    bytes_sent = {"required": True, "content": {"application/octet-stream": {"schema": {}}}}
    question = {"required": True, "content": {"application/json": {"schema": _question()}}}
    listed = [replay, _query("search"), _query("cursor"), _query("limit", "integer"), _query("sort")]
    one = {**_path("number"), "schema": {"type": "integer"}}
    pages = {
        path: {"get": _operation(title, "page_" + path.strip("/").split("/")[-1].strip("{}").replace("-", "_"), html)}
        for path, title in page.items()
    }
    pages["/time-machine/{replay}"]["get"]["parameters"] = [replay]
    return pages | {
        "/api/replays": {
            "get": _operation("What can be replayed, what runs, and the results kept", "replays"),
            "post": _operation("Begin a replay", "start_replay") | locked | {"requestBody": question},
        },
        "/api/replays/uploads/{upload}": {
            "delete": _operation("Remove an upload", "drop_replay_upload", None, [upload]) | locked
        },
        "/api/replays/uploads/{upload}/{role}/{name}": {"put": file | locked | {"requestBody": bytes_sent}},
        "/api/replays/{replay}": {
            "get": _operation("A replay's progress or result", "replay", None, [replay]),
            "delete": _operation("Cancel a replay, or remove its result", "end_replay", None, [replay]) | locked,
        },
        "/api/replays/{replay}/objects": {
            "get": _operation("A page of a result's objects", "replay_objects", _content("page", _ref("Page")), listed)
        },
        "/api/replays/{replay}/objects/{number}": {
            "get": _operation("One object's receipt", "replay_receipt", None, [replay, one])
        },
    }


def _question() -> dict[str, Any]:
    names: dict[str, Any] = {"type": "array", "items": {"type": "string"}}
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "upload": {"type": "string", "description": "what the files were sent under"},
            "store": {"type": "string", "description": "a connected store, whose last scan is the inventory"},
            "history": {"type": "boolean", "description": "the accesses that the fabric itself has recorded"},
            "provider": {"type": "string", "enum": ["aws", "gcp", "azure"]},
            "classes": names,
            "policies": {**names, "description": "with accesses only"},
            "stretch": {"type": "number", "exclusiveMinimum": 0, "description": "with accesses only, else 1"},
            "horizon_days": {"type": ["integer", "null"], "minimum": 1, "description": "with accesses only"},
        },
    }


def _plane_paths() -> dict[str, Any]:
    any_bytes: dict[str, Any] = {"application/octet-stream": {"schema": {}}}
    headers = [
        {"name": name, "in": "header", "schema": {"type": "string"}, "description": text}
        for name, text in _WRITE_HEADERS.items()
    ]
    read = {"description": "the bytes", "content": any_bytes}
    put = _operation("Write an object", "put_object", None, [*headers])
    put["requestBody"] = {"required": True, "content": any_bytes}
    put["responses"]["201"] = {"description": "COMMITTED, created"}
    list_query = [_query("prefix"), _query("cursor"), _query("limit", "integer")]
    ranged = {"name": "Range", "in": "header", "schema": {"type": "string"}}
    get = _operation("Read an object", "get_object", read, [ranged])
    get["responses"]["206"] = read
    locked: dict[str, Any] = {"security": [{"token": []}]}
    return {
        "/api/objects": {"get": _operation("List objects", "list_objects", None, list_query)},
        "/api/objects/{key}": {
            "parameters": [_KEY],
            "get": get,
            "head": _operation("An object's size, version and hash", "head_object"),
            "put": put | locked,
            "delete": _operation("Delete an object, leaving a tombstone", "delete_object") | locked,
        },
        "/api/events": {"post": _events()},
    }


def _events() -> dict[str, Any]:
    operation = _operation("Accept accesses, durably", "accept_events") | {"security": [{"token": []}]}
    content = {
        "application/json": {"schema": {"type": "object", "description": "columns of one length"}},
        "application/x-ndjson": {"schema": {"type": "string"}},
    }
    return {**operation, "requestBody": {"required": True, "content": content}}


def _operation(
    summary: str, name: str, ok: dict[str, Any] | None = None, parameters: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    answer = ok or _content("the answer", {"type": "object"})
    responses = {"200": answer, "default": {"$ref": "#/components/responses/problem"}}
    found: dict[str, Any] = {"summary": summary, "operationId": name, "responses": responses}
    return {**found, "parameters": parameters} if parameters else found


def _content(description: str, schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema}}}


def _query(name: str, kind: str = "string", description: str = "") -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": {"type": kind}, "description": description or name}


def _path(name: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _status() -> dict[str, Any]:
    return {"type": "object", "required": list(SECTIONS), "additionalProperties": _ref("Section")}


def _problem() -> dict[str, Any]:
    words = {name: {"type": "string"} for name in ("type", "title", "detail", "hint")}
    return {
        "type": "object",
        "required": ["type", "title", "status"],
        "properties": words | {"status": {"type": "integer"}},
    }


def _page() -> dict[str, Any]:
    objects = {"type": "array", "items": {"type": "object"}}
    return {
        "type": "object",
        "required": ["columns", "rows", "total", "cursor"],
        "properties": {
            "columns": objects,
            "rows": objects,
            "total": {"type": "integer"},
            "cursor": {"type": ["string", "null"]},
        },
    }
