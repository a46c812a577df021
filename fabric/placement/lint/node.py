"""A decoded document whose every part knows its path, so that what is wrong in it can be named."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NoReturn
from xml.parsers import expat

from fabric.core.errors import BadInputError, TooLargeError

DOCUMENT_BYTES_MOST = 4 << 20
DEPTH_MOST = 32
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2})(?:T00:00(?::00(?:\.0+)?)?(?:Z|\+00:?00)?)?")


@dataclass(frozen=True, slots=True)
class Node:
    """A value of the document, where it stands, and (XML) on which line."""

    value: object
    path: str
    file: str
    lines: Mapping[str, int]

    def fail(self, message: str, hint: str = "") -> NoReturn:
        """Raise BadInputError that names file, line and path."""
        line = {"line": self.lines[self.path]} if self.path in self.lines else {}
        raise BadInputError(message, hint=hint, file=self.file, path=self.path or "the whole document", **line)

    def table(self, known: Collection[str]) -> dict[str, Node]:
        """Return the fields of an object; one that is not ``known`` is an error: it may mean something."""
        if not isinstance(self.value, dict):
            self.fail("an object is expected here")
        for name in self.value:
            if name not in known:
                self._below(name).fail("this field is unknown", f"known here are {', '.join(sorted(known))}")
        return {str(name): self._below(name) for name, value in self.value.items() if value is not None}

    def field(self, name: str, known: Collection[str] = ()) -> Node:
        """Return one field that must be there; ``known`` are the others that may be."""
        fields = self.table({name, *known})
        if name not in fields:
            self.fail(f"{name} is missing here")
        return fields[name]

    def items(self) -> list[Node]:
        """Return the elements of a list."""
        if not isinstance(self.value, list):
            self.fail("a list is expected here")
        return [Node(item, f"{self.path}[{place}]", self.file, self.lines) for place, item in enumerate(self.value)]

    def text(self, allowed: Collection[str] = ()) -> str:
        """Return a string, one of ``allowed`` where that is given."""
        if not isinstance(self.value, str):
            self.fail("text is expected here")
        if allowed and self.value not in allowed:
            self.fail(f"{self.value!r} is not allowed here", f"write one of {', '.join(allowed)}")
        return self.value

    def whole(self, least: int = 0) -> int:
        """Return a whole number of at least ``least``; digits in quotes count, as XML and some tools write them."""
        value = self.value
        if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip()):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            self.fail("a whole number is expected here")
        if value < least:
            self.fail(f"{value} is too small", f"write {least} or more")
        return value

    def flag(self) -> bool:
        """Return true or false, also when written as text."""
        value = {"true": True, "false": False}.get(str(self.value).lower())
        if value is None:
            self.fail("true or false is expected here")
        return value

    def date(self) -> str:
        """Return YYYY-MM-DD of a date at midnight UTC."""
        match = _DATE.fullmatch(self.text().strip())
        if match is None:
            self.fail("a date at midnight UTC is expected here", "write for example 2027-01-31T00:00:00Z")
        try:
            return dt.date.fromisoformat(match[1]).isoformat()
        except ValueError:
            self.fail("there is no such day")

    def _below(self, name: object) -> Node:
        path = f"{self.path}.{name}" if self.path else str(name)
        value = self.value[name] if isinstance(self.value, dict) else None
        return Node(value, path, self.file, self.lines)


def parse(data: bytes, file: str) -> tuple[Node, bool]:
    """Decode a JSON or XML document; returns its root and whether it was XML.

    Raises:
        TooLargeError: more than 4 MiB.
        BadInputError: neither JSON nor XML; line and column are named.
    """
    if len(data) > DOCUMENT_BYTES_MOST:
        raise TooLargeError("a lifecycle document has at most 4 MiB", file=file, bytes=len(data))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInputError("the document is not UTF-8", file=file, byte=error.start) from error
    if text.lstrip().startswith("<"):
        return _parse_xml(text, file), True
    return Node(_parse_json(text, file), "", file, {}), False


def _parse_json(text: str, file: str) -> object:
    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise BadInputError("a field stands twice in one object", field=twice, file=file, hint="keep one of them")
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        message = f"the document is neither JSON nor XML: {error.msg}"
        raise BadInputError(message, file=file, line=error.lineno, column=error.colno) from error
    except RecursionError as error:
        raise BadInputError("the document is nested too deeply", file=file) from error


class _Tree:
    """Turns expat's calls into nested [name, children, text, line]."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.parser = expat.ParserCreate()
        self.stack: list[Element] = []
        self.root: Element | None = None
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._data
        self.parser.StartDoctypeDeclHandler = self._doctype

    def _start(self, name: str, _: dict[str, str]) -> None:
        if len(self.stack) >= DEPTH_MOST:
            raise BadInputError("the document is nested too deeply", file=self.file, line=self._line())
        element = Element(name.rpartition(":")[2], [], [], self._line())
        if self.stack:
            self.stack[-1].children.append(element)
        else:
            self.root = element
        self.stack.append(element)

    def _end(self, _: str) -> None:
        self.stack.pop()

    def _data(self, text: str) -> None:
        self.stack[-1].text.append(text)

    def _doctype(self, *_: object) -> None:
        raise BadInputError("a lifecycle document has no DOCTYPE", file=self.file, line=self._line())

    def _line(self) -> int:
        return self.parser.CurrentLineNumber


@dataclass(frozen=True, slots=True)
class Element:
    """An XML element; its text is what stands directly in it."""

    name: str
    children: list[Element]
    text: list[str]
    line: int


def _parse_xml(text: str, file: str) -> Node:
    tree = _Tree(file)
    try:
        tree.parser.Parse(text, True)
    except expat.ExpatError as error:
        message = f"the document is not well-formed XML: {expat.ErrorString(error.code)}"
        raise BadInputError(message, file=file, line=error.lineno, column=error.offset + 1) from error
    assert tree.root is not None
    if tree.root.name not in ("LifecycleConfiguration", "BucketLifecycleConfiguration"):
        name = tree.root.name
        raise BadInputError(
            "the XML is no lifecycle configuration", file=file, line=tree.root.line, element=name,
            hint="its root is LifecycleConfiguration",
        )  # fmt: skip
    lines: dict[str, int] = {}
    return Node(_value(tree.root, "", lines, file), "", file, lines)


_LISTS = {  # elements that may repeat, and the field of the JSON form that holds them
    ("LifecycleConfiguration", "Rule"): "Rules",
    ("BucketLifecycleConfiguration", "Rule"): "Rules",
    ("Rule", "Transition"): "Transitions",
    ("Rule", "NoncurrentVersionTransition"): "NoncurrentVersionTransitions",
    ("And", "Tag"): "Tags",
}


def _value(element: Element, path: str, lines: dict[str, int], file: str) -> object:
    """Return an element in the shape of the JSON form, and note the line of every path."""
    lines[path] = element.line
    if not element.children:
        text = "".join(element.text)
        return {} if element.name in ("Filter", "And") and not text.strip() else text
    found: dict[str, object] = {}
    for child in element.children:
        many = _LISTS.get((element.name, child.name))
        name = many or child.name
        below = f"{path}.{name}" if path else name
        if many:
            held = found.setdefault(name, [])
            assert isinstance(held, list)
            held.append(_value(child, f"{below}[{len(held)}]", lines, file))
            lines.setdefault(below, child.line)
        elif name in found:
            raise BadInputError("an element stands twice", file=file, line=child.line, path=below)
        else:
            found[name] = _value(child, below, lines, file)
    return found
