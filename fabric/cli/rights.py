"""The commands about who may do what and what was ordered: tokens, keys, the audit chain, settings, erasing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from fabric.cli.client import act
from fabric.core.config import own_settings


@click.group()
def token() -> None:
    """Named tokens: who may read and change what."""


@token.command("add")
@click.argument("name")
@click.option("--role", type=click.Choice(["viewer", "operator", "approver", "security", "admin"]), default="viewer")
@click.option("--class", "classes", multiple=True, help="A class it may read; may be repeated. Default: public.")
@click.pass_obj
def token_add(session: Any, name: str, role: str, classes: tuple[str, ...]) -> None:
    """Make a token called NAME; it is shown once."""
    with session.client() as client:
        session.show(act(client, "token_add", name=name, role=role, classes=list(classes or ("public",))), "token")


@token.command("list")
@click.pass_obj
def token_list(session: Any) -> None:
    """List tokens, without their secrets."""
    with session.client() as client:
        session.show(act(client, "token_list")["tokens"], "tokens")


@token.command("revoke")
@click.argument("name")
@click.pass_obj
def token_revoke(session: Any, name: str) -> None:
    """Make the token called NAME worthless."""
    with session.client() as client:
        session.show(act(client, "token_revoke", name=name), "token")


@click.command()
@click.argument("key")
@click.option(
    "--second",
    metavar="REFERENCE",
    help="A second approver's token: env:NAME or file:PATH. Needed once two tokens may approve.",
)
@click.confirmation_option(prompt="Every copy of this object becomes unreadable for ever. Go on?")
@click.pass_obj
def erase(session: Any, key: str, second: str | None) -> None:
    """Destroy KEY: its encryption key is shredded, a tombstone and an audit line stay."""
    from fabric.storage.secrets import resolve

    token = resolve(second) if second else ""
    with session.client() as client:
        session.show(act(client, "erase", key=key, second_token=token), "erase")


@click.group()
def key() -> None:
    """Encryption keys."""


@key.command("export")
@click.argument("object_key")
@click.pass_obj
def key_export(session: Any, object_key: str) -> None:
    """Print what a program that is not the fabric needs to decrypt OBJECT_KEY (docs/design/format.md)."""
    with session.client() as client:
        session.show(act(client, "key_export", key=object_key), "key")


@click.group()
def audit() -> None:
    """The audit chain."""


@audit.command("verify")
@click.pass_obj
def audit_verify(session: Any) -> int:
    """Check every link and checkpoint of the audit chain; names the first record that does not hold."""
    from fabric.app.maintenance import verify_audit

    found = verify_audit(session.data_dir)
    session.show(found, "audit")
    return 0 if found["ok"] else 8


@click.group()
def config() -> None:
    """Settings: check a file, see what was in force when, go back."""


@config.command("check")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def config_check(session: Any, file: Path) -> None:
    """Check the settings FILE without starting anything."""
    from fabric.app.maintenance import check_settings

    rows = check_settings(file)
    session.show(rows if rows else {"ok": True}, f"{file}: correct")


@config.command("log")
@click.pass_obj
def config_log(session: Any) -> None:
    """List accepted configurations, newest first."""
    with session.client() as client:
        session.show(act(client, "config_log")["entries"], "configurations")


@config.command("diff")
@click.argument("older", type=int)
@click.argument("newer", type=int)
@click.pass_obj
def config_diff(session: Any, older: int, newer: int) -> None:
    """Show what changed between two configurations."""
    with session.client() as client:
        found = act(client, "config_diff", older=older, newer=newer)
    if session.as_json:
        session.show(found)
    else:
        click.echo("\n".join(found["lines"]) or "no difference")


@config.command("reload")
@click.argument("file", type=click.Path(path_type=Path))
@click.pass_obj
def config_reload(session: Any, file: Path) -> None:
    """Put the prefix policies of the settings FILE in force at once; names what waits for a new start."""
    settings = msgspec.to_builtins(own_settings(file, session.stores))
    with session.client() as client:
        session.show(act(client, "config_reload", settings=settings), "configuration")


@config.command("rollback")
@click.argument("number", type=int)
@click.pass_obj
def config_rollback(session: Any, number: int) -> None:
    """Put configuration NUMBER back: its prefix policies at once, the rest at the next start."""
    with session.client() as client:
        session.show(act(client, "config_rollback", number=number), "configuration")
