"""The README is true: its blocks run, and what it lists is what the code has."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest

from fabric.app.acts import Acts
from fabric.cli.main import cli
from fabric.core import config, errors
from fabric.core.config import Settings, load_settings
from fabric.dashboard.openapi import document
from fabric.demos.world import RULES
from fabric.runtime.component import SECTIONS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = (ROOT / "fabric.example.toml").read_text(encoding="utf-8")
FENCE = re.compile(r"^(?P<indent> *)```(?P<kind>\S*)\n(?P<body>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
KINDS = {"sh", "console", "text", "toml", "python"}
PORTS = {"FABRIC_DASHBOARD__PORT_FIRST": "5601", "FABRIC_DASHBOARD__PORT_LAST": "5640"}


class Block(NamedTuple):
    """One fenced block."""

    kind: str
    body: str


def blocks(text: str) -> list[Block]:
    found = []
    for match in FENCE.finditer(text):
        lines = match["body"].splitlines(keepends=True)
        found.append(Block(match["kind"], "".join(line.removeprefix(match["indent"]) for line in lines)))
    return found


def section(title: str) -> str:
    """Return the README's text under ``## title``."""
    return README.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def table(text: str, header: str) -> list[list[str]]:
    """Return the rows of the first table whose first column is called ``header``."""
    lines = text.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip().strip("|").split(" | ")])
    return rows


def codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# ---------------------------------------------------------------- blocks


def test_every_block_is_of_a_kind_that_says_whether_it_is_executed() -> None:
    assert README.count("```") == 2 * len(blocks(README))
    assert {block.kind for block in blocks(README)} <= KINDS


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a user has after cloning and a first run, without data of his own."""
    copy = tmp_path_factory.mktemp("readme") / "fabric"
    copy.mkdir()
    for entry in ROOT.iterdir():
        if entry.is_file():
            shutil.copy2(entry, copy)
    for name in ("fabric", "web", "docs"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.tmp.*"))
    return copy


@pytest.mark.slow
@pytest.mark.item(123, 133)
def test_every_command_block_runs_in_its_order(checkout: Path, tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"report-{number}.bin").write_bytes(os.urandom(10_000))
    environment = os.environ | PORTS | {"STORE": str(tmp_path)}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    executed = [block.body for block in blocks(README) if block.kind == "sh"]
    assert len(executed) >= 6
    for body in executed:
        done = subprocess.run(
            ["sh", "-eu", "-c", body], cwd=checkout, env=environment, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, f"{body}\n{done.stdout}\n{done.stderr}"
    assert {path.name for path in (checkout / "trial" / "exports").iterdir()} == set(SECTIONS.values())


# ---------------------------------------------------------------- settings


def structs() -> Iterator[tuple[str, type[msgspec.Struct]]]:
    """Yield (section, struct) of everything that can be set."""
    for name, kind in Settings.__annotations__.items():
        found = getattr(config, str(kind), None)
        if isinstance(found, type) and issubclass(found, msgspec.Struct):
            yield name, found
    yield "stores.*", config.StoreSettings
    yield "policies", config.PolicySettings


def uncommented(text: str) -> str:
    """Return the example with its commented settings and sections in force."""
    return re.sub(r"^# (?=\[{1,2}\w|\w+ = )", "", text, flags=re.MULTILINE)


@pytest.mark.item(133)
def test_the_readme_shows_the_example_file_as_it_is() -> None:
    assert EXAMPLE in [block.body for block in blocks(section("Settings"))]


@pytest.mark.item(133)
def test_every_setting_stands_in_the_example_file_and_none_that_does_not_exist() -> None:
    tree = tomllib.loads(uncommented(EXAMPLE))
    shown: dict[str, set[str]] = {name: set(body) for name, body in tree.items() if isinstance(body, dict)}
    shown["stores.*"] = {name for store in tree["stores"].values() for name in store}
    shown["policies"] = {name for entry in tree["policies"] for name in entry}
    sections = dict(structs())
    for name, kind in sections.items():
        assert shown[name] == set(kind.__struct_fields__), name
    assert set(tree) == set(Settings.__struct_fields__)


def test_the_example_file_in_force_changes_nothing_but_where_it_says_so() -> None:
    settings = load_settings(ROOT / "fabric.example.toml", {})
    assert settings == Settings()


def test_the_commented_examples_are_settings_that_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "fabric.toml"
    path.write_text(uncommented(EXAMPLE), encoding="utf-8")
    settings = load_settings(path, {})
    assert set(settings.stores) == {"nas", "bucket", "minio", "container", "fabric_disk"}
    assert settings.policies[0].prefix == "hr/"


@pytest.mark.parametrize("variable", ["COST_THRESHOLD", "LATENCY_THRESHOLD", "CAPACITY_THRESHOLD"])
def test_the_environment_of_the_specification_is_named(variable: str) -> None:
    assert f"`{variable}`" in section("Settings")


def test_every_variable_that_the_code_reads_is_named() -> None:
    read = set()
    for path in [*(ROOT / "fabric").rglob("*.py"), *ROOT.glob("*.py")]:
        read |= set(re.findall(r"""["'](F(?:ABRIC|LASK)_[A-Z_]+[A-Z])["']""", path.read_text(encoding="utf-8")))
    assert not {name for name in read if name not in README}


# ---------------------------------------------------------------- endpoints, acts, reports


def listed_endpoints() -> set[tuple[str, str]]:
    """Return (method, path) of the README's table, with OpenAPI's braces."""
    found = set()
    for row in table(section("Endpoints"), "endpoint"):
        path = ""
        for code in codes(row[0]):
            method, _, rest = code.partition(" ")
            path = rest.partition("?")[0] or path
            found.add((method, re.sub(r"[A-Z]{3,}", lambda match: "{" + match[0].lower() + "}", path)))
    return {(method, path) for method, path in found if method.isupper()}


@pytest.mark.item(133)
def test_the_table_of_endpoints_is_that_of_the_open_api_document() -> None:
    described = {
        (method.upper(), path.replace("{act}", "{name}"))
        for path, methods in document()["paths"].items()
        for method in methods
        if method in ("get", "put", "post", "head", "delete")
    }
    pages = {("GET", "/login"), ("POST", "/login")}  # a page for people, not part of the interface
    assert listed_endpoints() - pages == described
    assert pages <= listed_endpoints()


@pytest.mark.item(133)
def test_every_act_stands_in_the_table_of_endpoints() -> None:
    row = next(row for row in table(section("Endpoints"), "endpoint") if "/api/acts/" in row[0])
    names = set(Acts(_Anything()).table())
    assert set(codes(row[1])) == names


class _Anything:
    """Stands for the engine where only the names of the acts are asked for."""

    def __getattr__(self, _name: str) -> Any:
        return self


@pytest.mark.item(133)
def test_the_table_of_reports_is_that_of_the_code() -> None:
    rows = table(section("Reports"), "file")
    assert {codes(row[1])[0]: codes(row[0])[0] for row in rows} == dict(SECTIONS)


# ---------------------------------------------------------------- commands and exit codes


def commands(group: click.Group, prefix: str = "") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield prefix + name


@pytest.mark.item(133)
def test_the_table_of_commands_is_that_of_the_program() -> None:
    written = [code for row in table(section("Command line"), "command") for code in codes(row[0])]
    named = {" ".join(re.findall(r"\b[a-z_]+\b", code.partition("[")[0])) for code in written}
    assert named == set(commands(cli))


def every_error(kind: type[errors.FabricError] = errors.FabricError) -> Iterator[type[errors.FabricError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from every_error(child)


@pytest.mark.item(133)
def test_the_exit_codes_are_those_of_the_errors() -> None:
    listed = {int(row[0]) for row in table(section("Command line"), "exit code")}
    assert listed == {error.exit_code for error in every_error()} | {0, 130}


def test_the_statuses_are_those_of_the_errors() -> None:
    text = section("Endpoints").split("application/problem+json", 1)[1]
    listed = {int(number) for number in re.findall(r"\b([45]\d\d)\b", text)}
    assert listed == {error.http_status for error in every_error()} - {500}


# ---------------------------------------------------------------- other pages


def test_the_page_on_the_sample_lists_exactly_the_rules_that_make_it() -> None:
    page = (ROOT / "docs" / "sample.md").read_text(encoding="utf-8")
    assert [tuple(row) for row in table(page, "what")] == [(what, rule) for what, rule in RULES]


def test_every_file_that_a_page_links_to_exists() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_source_file_that_a_page_names_exists() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for name in re.findall(
            r"`((?:fabric|tests|web)/[a-z0-9_./]+\.(?:py|html|toml|json))`", page.read_text("utf-8")
        ):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_the_package_carries_every_file_that_it_reads() -> None:
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    carried = {path for pattern in packaging["package-data"]["fabric"] for path in (ROOT / "fabric").glob(pattern)}
    present = {
        path
        for path in (ROOT / "fabric").rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert present <= carried
    pages = {path for globs in packaging["data-files"].values() for each in globs for path in ROOT.glob(each)}
    assert {path for path in (ROOT / "web").rglob("*") if path.is_file()} == pages
