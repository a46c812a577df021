"""The commands. Each parses, calls, prints and exits; what it does lives behind the engine's pages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from fabric import __version__
from fabric.cli.arguments import json_first
from fabric.cli.client import CHUNK_BYTES, Client, HttpClient, LocalClient, act, call, object_path
from fabric.cli.jobs import jobs, undo
from fabric.cli.lint import lint
from fabric.cli.plan import apply, plan
from fabric.cli.replay import replay
from fabric.cli.rights import audit, config, erase, key, token
from fabric.cli.show import show, show_error, show_problem, transfer_progress, while_working
from fabric.cli.showback import showback
from fabric.cli.tune import tune
from fabric.core.config import Settings, own_settings
from fabric.core.errors import BadInputError, FabricError
from fabric.core.log import start_logging

EXIT_CODES = """\b
Exit codes: 0 done; 1 fault; 2 wrong input or setting; 3 data folder or ports in use, or the other world's;
4 not found; 5 not allowed; 6 conflict, precondition or freeze; 7 unavailable or outcome unknown, try again;
8 bytes or a file are damaged; 9 no room; 130 interrupted."""
LISTED = ("key", "size_bytes", "class", "place", "copies", "modified")  # what `ls` shows of an object to people


class Session:
    """What the options before the command say; opens the engine when a command asks for it."""

    def __init__(
        self, data_dir: Path, config: Path | None, stores: tuple[str, ...], *, as_json: bool, sample: Callable[[], Any]
    ) -> None:
        self.data_dir, self.config, self.stores, self.as_json, self.sample = data_dir, config, stores, as_json, sample

    def own_settings(self) -> Settings | None:
        """Return the settings of ``--config`` and ``--store``; None when neither is given."""
        return own_settings(self.config, self.stores)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Give the running engine, or this process as the engine for one command."""
        from fabric.app.client import InProcess, reach

        with reach(self.data_dir, self.own_settings(), sample=self.sample) as engine:
            if isinstance(engine, InProcess):
                yield LocalClient(engine.application, engine.token)
            else:
                yield HttpClient(engine)

    def show(self, value: Any, title: str = "", *, columns: Sequence[str] = ()) -> None:
        show(value, title=title, columns=columns, as_json=self.as_json)


class _Group(click.Group):
    """Turns the fabric's errors into one clear message and their exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        kwargs["standalone_mode"] = False
        kwargs["args"], as_json = json_first(kwargs["args"])
        try:
            code = super().main(*args, **kwargs)
        except FabricError as error:
            show_error(error, as_json=as_json)
            sys.exit(error.exit_code)
        except (click.exceptions.Abort, KeyboardInterrupt):
            sys.exit(130)
        except click.ClickException as error:
            if as_json:
                show_problem(BadInputError(error.format_message(), hint="see --help").problem())
            else:
                error.show()
            sys.exit(error.exit_code)
        except BrokenPipeError:
            sys.exit(0)
        sys.exit(code if isinstance(code, int) else 0)


@click.group(cls=_Group, epilog=EXIT_CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fabric")
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("data"),
    show_default=True,
    help="Where the fabric keeps its catalog, events, keys and reports.",
)
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="A fabric.toml.")
@click.option("--store", "stores", multiple=True, metavar="NAME=URL", help="A store of your own; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one document; may also stand last.")
@click.pass_context
def cli(context: click.Context, data_dir: Path, config: Path | None, stores: tuple[str, ...], as_json: bool) -> None:
    """Look at where data lies, what it costs, and move it as far as it is trusted."""
    if context.invoked_subcommand != "run":
        start_logging("ERROR" if as_json else "WARNING")
    context.obj = Session(data_dir, config, stores, as_json=as_json, sample=context.obj)


@cli.command()
@click.option("--no-browser", is_flag=True, help="Do not open the dashboard.")
@click.option("--duration", type=click.FloatRange(min=1), help="Stop by itself after so many seconds.")
@click.option("--no-workload", is_flag=True, help="Sample world only: no reads, writes, anomaly or outage.")
@click.pass_obj
def run(session: Session, no_browser: bool, duration: float | None, no_workload: bool) -> int:
    """Start the fabric and its dashboard; stop with Ctrl-C."""
    from fabric.app.run import run_engine

    return run_engine(
        session.data_dir,
        session.own_settings(),
        sample=session.sample(),
        browser=not no_browser,
        duration=duration,
        workload=not no_workload,
    )


@cli.command()
@click.argument("url")
@click.option("--mode", type=click.Choice(["look", "shadow", "copy", "move"]), default="look", show_default=True)
@click.pass_obj
def connect(session: Session, url: str, mode: str) -> int:
    """Test the store at URL for a mode; name what is missing and print the smallest policy that grants it."""
    from fabric.app.maintenance import connect_store

    found = connect_store(url, mode)
    session.show(found, "connect")
    return int(found["exit_code"])


@cli.command()
@click.argument("store", required=False)
@click.option("--full", is_flag=True, help="Ask every file again, also in folders that have not changed.")
@click.pass_obj
def scan(session: Session, store: str | None, full: bool) -> None:
    """Catalog adopted stores (or one STORE) by listing and stat alone; resumes, and is quick when little changed."""
    with session.client() as client:
        found = while_working(
            lambda: act(client, "scan", store=store, full=full), lambda: list(act(client, "progress")["progress"])
        )
    session.show(found, "scan")


@cli.command()
@click.pass_obj
def status(session: Session) -> None:
    """Say how the fabric is: each component's state and headline figures."""
    with session.client() as client:
        found = call(client, "GET", "/api/status")
    if session.as_json:
        session.show(found)
        return
    for section, body in found.items():
        if isinstance(body, dict) and "headline" in body:
            rows = [{"figure": h["label"], "value": h["value"], "unit": h.get("unit", "")} for h in body["headline"]]
            session.show(rows, f"{section}: {body.get('state', '')}. {body.get('note') or ''}".rstrip())


@cli.command()
@click.argument("key")
@click.pass_obj
def explain(session: Session, key: str) -> None:
    """Say where KEY lies and why: policy, receipt, forecast, jobs, replicas, cost."""
    from urllib.parse import quote

    with session.client() as client:
        session.show(call(client, "GET", "/api/explain/" + quote(key)), key)


@cli.command()
@click.argument("key")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), default="-")
@click.option("--version", "version_id", help="One version by its id.")
@click.pass_obj
def get(session: Session, key: str, file: Path, version_id: str | None) -> None:
    """Read the object KEY into FILE (default: standard output); its SHA-256 is checked on the way."""
    from fabric.cli.transfer import receive

    query = {"version": version_id} if version_id else None
    with session.client() as client, client.request("GET", object_path(key), query=query) as answer:
        facts = receive(answer, file, transfer_progress(key, int(answer.headers.get("content-length", 0) or 0)))
    if str(file) != "-":
        session.show(facts, key)


@cli.command()
@click.argument("key")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True), default="-")
@click.option("--class", "classification", help="confidential, restricted, sensitive, private or public.")
@click.option("--criticality", help="critical, normal or low.")
@click.option("--latency", help="critical, standard, flexible or any.")
@click.option("--if-absent", is_flag=True, help="Refuse when KEY exists.")
@click.pass_obj
def put(
    session: Session,
    key: str,
    file: Path,
    classification: str | None,
    criticality: str | None,
    latency: str | None,
    if_absent: bool,
) -> None:
    """Write FILE (default: standard input) as the object KEY."""
    from fabric.cli.transfer import pieces

    asked = {
        "X-Fabric-Class": classification,
        "X-Fabric-Criticality": criticality,
        "X-Fabric-Latency": latency,
        "If-None-Match": "*" if if_absent else None,
    }
    headers = {name: value for name, value in asked.items() if value}
    size = 0 if str(file) == "-" else file.stat().st_size
    if size:
        headers["Content-Length"] = str(size)
    body = pieces(file, CHUNK_BYTES, transfer_progress(key, size))
    with session.client() as client, client.request("PUT", object_path(key), body=body, headers=headers) as answer:
        session.show(
            {
                "key": key,
                "etag": answer.headers.get("etag"),
                "sha256": answer.headers.get("x-fabric-sha256"),
                "created": answer.status == 201,
            },
            key,
        )


@cli.command()
@click.argument("prefix", default="")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=1000, show_default=True)
@click.pass_obj
def ls(session: Session, prefix: str, limit: int) -> None:
    """List objects whose key starts with PREFIX."""
    rows: list[Any] = []
    with session.client() as client:
        query = {"prefix": prefix, "limit": str(min(limit, 1000))}
        while len(rows) < limit:
            page = call(client, "GET", "/api/objects", query=query)
            rows += page["objects"]
            if not page.get("cursor"):
                break
            query["cursor"] = page["cursor"]
    session.show(rows[:limit], f"{len(rows[:limit])} objects", columns=LISTED)


@cli.command()
@click.argument("prefix", default="")
@click.option("--remove", multiple=True, metavar="STORE/BLOB", help="Remove this orphan; may be given more than once.")
@click.pass_obj
def verify(session: Session, prefix: str, remove: tuple[str, ...]) -> int:
    """Read every replica under PREFIX and check its SHA-256; repairs from a good copy what is wrong.

    Without PREFIX it also lists orphans: blobs in managed stores that no object, job or removal names.
    """
    with session.client() as client:
        found = act(client, "verify", prefix=prefix, remove=list(remove))
    session.show(found, "verify")
    return 0 if not found.get("lost") else 8


@cli.command()
@click.option("--acknowledge", metavar="ID", help="Say that somebody works on it.")
@click.option("--history", is_flag=True, help="Also those that are resolved.")
@click.pass_obj
def alerts(session: Session, acknowledge: str | None, history: bool) -> None:
    """List alerts that fire or are acknowledged."""
    with session.client() as client:
        if acknowledge:
            act(client, "acknowledge", id=acknowledge)
        kind = "history" if history else "alerts"
        page = call(client, "GET", f"/api/pages/alerts/{kind}", query={"limit": "1000"})
    session.show(page["rows"], f"{page['total']} {kind}")


@cli.command()
@click.argument("name", default="operator")
@click.option("--why", default="", help="What for; shown to everybody.")
@click.option("--lift", is_flag=True, help="Lift the freeze called NAME.")
@click.pass_obj
def freeze(session: Session, name: str, why: str, lift: bool) -> None:
    """Stop every act on every store within 2 s, until the freeze NAME is lifted; survives a restart."""
    with session.client() as client:
        session.show(act(client, "unfreeze" if lift else "freeze", name=name, why=why), "freeze")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def backup(session: Session, file: Path) -> None:
    """Write catalog, event log, key table, head log and configuration into one archive FILE."""
    with session.client() as client:
        session.show(act(client, "backup", path=str(file.resolve())), "backup")


@cli.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def restore(session: Session, file: Path) -> None:
    """Make a data folder from the archive FILE; the folder must not exist or be empty."""
    from fabric.app.maintenance import restore_folder

    session.show(restore_folder(file, session.data_dir), "restore")


@cli.command()
@click.pass_obj
def rebuild(session: Session) -> None:
    """Make the catalog anew from the stores, the key table and the head log; the engine must be stopped."""
    from fabric.app.maintenance import rebuild_catalog

    session.show(rebuild_catalog(session.data_dir, session.own_settings(), sample=session.sample()), "rebuild")


for command in (token, erase, key, audit, config, replay, lint, apply, plan, jobs, undo, showback, tune):
    cli.add_command(command)


def main(sample: Callable[[], object]) -> None:
    """Run the command line; ``sample`` makes the sample world when no store is named."""
    cli.main(args=sys.argv[1:], obj=sample)
