"""What people ask the engine to do, by name: the same functions behind the page, the API and the command line.

Each checks the caller's role, does one thing and returns JSON-ready facts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from fabric.app.adoptedplans import AdoptedPlans
from fabric.app.engine import Engine
from fabric.app.operations import Plans, back_up, verify_replicas
from fabric.app.orphans import find_orphans, remove_orphans
from fabric.app.recorded import scanned_stores
from fabric.app.remembered import remember_settings
from fabric.app.showback import Record
from fabric.app.undone import quoted, take_back
from fabric.app.worlds import OWN
from fabric.catalog.tokens import TokenRow
from fabric.core.clock import iso
from fabric.core.config import Settings
from fabric.core.errors import BadInputError, ConfigError, ConflictError, ForbiddenError, NotFoundError
from fabric.migration.report import actions
from fabric.security.tokens import Action, Principal

Body = dict[str, Any]
Act = Callable[[Any, Body], Body]
LOG_MOST = 1000


class Acts:
    """The acts of one engine; ``table()`` gives them by name."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._plans, self._adopted = engine, Plans(engine), AdoptedPlans(engine)

    def table(self) -> Mapping[str, Act]:
        """Return every act: name -> (principal, body) -> facts."""
        rules: dict[str, tuple[Action, Callable[[Principal, Body], Body]]] = {
            "scan": (Action.OPERATE, self._scan),
            "plan": (Action.VIEW, self._plan),
            "apply": (Action.OPERATE, self._apply),
            "showback": (Action.VIEW, self._showback),
            "inventory": (Action.CONFIGURE, self._inventory),
            "verify": (Action.OPERATE, self._verify),
            "approve": (Action.APPROVE, self._job("approve")),
            "cancel": (Action.OPERATE, self._job("cancel")),
            "pause": (Action.OPERATE, self._job("pause")),
            "resume": (Action.OPERATE, self._job("resume")),
            "roll_back": (Action.OPERATE, self._job("roll_back")),
            "undo_quote": (Action.VIEW, self._undo_quote),
            "undo": (Action.OPERATE, self._undo),
            "acknowledge": (Action.ACKNOWLEDGE, self._acknowledge),
            "freeze": (Action.FREEZE, self._freeze),
            "unfreeze": (Action.FREEZE, self._unfreeze),
            "pin": (Action.OPERATE, self._pin(pinned=True)),
            "unpin": (Action.OPERATE, self._pin(pinned=False)),
            "progress": (Action.VIEW, self._progress),
            "backup": (Action.CONFIGURE, self._backup),
            "token_add": (Action.TOKENS, self._token_add),
            "token_list": (Action.TOKENS, self._token_list),
            "token_revoke": (Action.TOKENS, self._token_revoke),
            "erase": (Action.ERASE, self._erase),
            "key_export": (Action.EXPORT_KEY, self._key_export),
            "config_log": (Action.VIEW, self._config_log),
            "config_diff": (Action.VIEW, self._config_diff),
            "config_reload": (Action.CONFIGURE, self._config_reload),
            "config_rollback": (Action.CONFIGURE, self._config_rollback),
        }
        return {name: _allowed(action, act) for name, (action, act) in rules.items()}

    def _scan(self, who: Principal, body: Body) -> Body:
        return self._engine.scans.run(body.get("store"), who.name, full=bool(body.get("full", False)))

    def _progress(self, _who: Principal, _body: Body) -> Body:
        return {"progress": self._engine.scans.progress()}

    def _plan(self, _who: Principal, body: Body) -> Body:
        cap = _usd(body, "spend_cap_usd")
        if store := str(body.get("adopted", "")):
            return self._adopted.make(store, str(body.get("prefix", "")), _text(body, "target"), spend_cap_usd=cap)
        return self._plans.make(spend_cap_usd=cap)

    def _showback(self, _who: Principal, body: Body) -> Body:
        return Record(self._engine).showback(str(body.get("by", "prefix")))

    def _inventory(self, _who: Principal, body: Body) -> Body:
        """Write the last scan of a store into a new file on the engine's machine, as an inventory for a replay."""
        stores, store = scanned_stores(self._engine), _text(body, "store")
        where = stores.where(store)
        provider = str(body.get("provider") or where.provider)
        as_logged = bool(body.get("as_logged", False))
        file = stores.write(Path(_text(body, "path")), store, provider, as_logged=as_logged)
        return {"path": str(file), "provider": provider, "where": msgspec.to_builtins(where)}

    def _apply(self, who: Principal, body: Body) -> Body:
        sha256, shown = _text(body, "sha256"), _object(body, "plan")
        plans = self._adopted if self._adopted.knows(sha256) else self._plans
        return plans.apply(sha256, who.name, shown=shown)

    def _verify(self, who: Principal, body: Body) -> Body:
        prefix, remove = str(body.get("prefix", "")), _texts(body, "remove")
        if prefix and remove:
            raise BadInputError("orphans are looked for in whole stores", hint="leave out PREFIX to remove one")
        if remove:
            return self._remove_orphans(who, remove)
        found = verify_replicas(self._engine, prefix)
        if not prefix:  # a blob that nothing names has no key to compare with it
            found["orphans"] = find_orphans(self._engine).facts()
        facts = {name: found[name] for name in ("good", "faulty", "lost")}
        self._engine.audit.append_done("verify", who.name, prefix, **facts)
        return found

    def _remove_orphans(self, who: Principal, names: list[str]) -> Body:
        """Remove blobs that nothing names; no replica is read for it."""
        orphans = find_orphans(self._engine)
        removals = remove_orphans(self._engine, orphans, names, who.name)
        return {"orphans": orphans.facts() | {"removals": removals}}

    def _job(self, verb: str) -> Callable[[Principal, Body], Body]:
        def act(who: Principal, body: Body) -> Body:
            job = getattr(self._engine.migration, verb)(_text(body, "id"), who.name)
            self._engine.wake("migration")
            return {
                "id": job.id,
                "key": job.key,
                "state": str(job.state),
                "cost_usd": job.cost_usd,
                "may": actions(job),
            }

        return act

    def _undo_quote(self, _who: Principal, body: Body) -> Body:
        return quoted(self._engine.migration.quote(_text(body, "id")))

    def _undo(self, who: Principal, body: Body) -> Body:
        return take_back(self._engine, who.name, _text(body, "id"), _text(body, "sha256"), _texts(body, "allow"))

    def _acknowledge(self, who: Principal, body: Body) -> Body:
        alert = self._engine.alerts.acknowledge(_text(body, "id"), who.name)
        self._engine.wake("security")
        return {"id": body["id"], "state": str(getattr(alert, "state", "acknowledged"))}

    def _freeze(self, who: Principal, body: Body) -> Body:
        state = self._engine.freeze.freeze(_text(body, "name"), who.name, str(body.get("why", "")))
        self._engine.audit.append_done("freeze", who.name, state.name, why=state.why)
        self._engine.show()
        return {"name": state.name, "since": iso(state.at), "who": state.who}

    def _unfreeze(self, who: Principal, body: Body) -> Body:
        name = _text(body, "name")
        self._engine.freeze.lift(name)
        if self._engine.running:
            self._engine.fleet.start()  # what a freeze at the start kept from being attached
        self._engine.audit.append_done("unfreeze", who.name, name)
        self._engine.show()
        return {"lifted": name, "still_in_force": [state.name for state in self._engine.freeze.states()]}

    def _pin(self, *, pinned: bool) -> Callable[[Principal, Body], Body]:
        def act(who: Principal, body: Body) -> Body:
            key = _text(body, "key")
            head = self._engine.heads.get(key)
            if head is None or head.deleted:
                raise NotFoundError("there is no such object", key=key)
            if head.pinned != pinned:
                self._engine.heads.commit(msgspec.structs.replace(head, pinned=pinned))
                self._engine.audit.append_done("pin" if pinned else "unpin", who.name, key)
            return {"key": key, "pinned": pinned}

        return act

    def _backup(self, who: Principal, body: Body) -> Body:
        found = back_up(self._engine, Path(_text(body, "path")))
        self._engine.audit.append_done("backup", who.name, str(found["path"]), bytes=found["bytes"])
        return found

    def _token_add(self, who: Principal, body: Body) -> Body:
        name, classes = _text(body, "name"), body.get("classes", ["public"])
        if not isinstance(classes, list):
            raise BadInputError("classes is a list of class names", given=str(classes))
        secret = self._engine.tokens.add(name, _text(body, "role"), [str(one) for one in classes], who.name)
        return {"name": name, "token": secret, "note": "shown once; send it as Authorization: Bearer TOKEN"}

    def _token_list(self, _who: Principal, _body: Body) -> Body:
        return {"tokens": [_token(row) for row in self._engine.tokens.all()]}

    def _token_revoke(self, who: Principal, body: Body) -> Body:
        self._engine.tokens.remove(_text(body, "name"), who.name)
        return {"revoked": body["name"]}

    def _erase(self, who: Principal, body: Body) -> Body:
        self._engine.freeze.check()
        second = self._engine.tokens.who(str(body["second_token"])) if body.get("second_token") else None
        done = self._engine.eraser.erase(_text(body, "key"), who, second, four_eyes=self._engine.tokens.four_eyes)
        return dataclasses.asdict(done) | {"at": iso(done.at)}

    def _key_export(self, who: Principal, body: Body) -> Body:
        key = _text(body, "key")
        found = self._engine.vault.export_key(key)
        self._engine.audit.append("key.export", who.name, key)
        return found

    def _config_log(self, _who: Principal, _body: Body) -> Body:
        entries = self._engine.config_history.entries(LOG_MOST)
        rows = [{"number": e.number, "at": iso(e.at), "who": e.who, "sha256": e.sha256} for e in entries]
        return {"entries": rows}

    def _config_diff(self, _who: Principal, body: Body) -> Body:
        history = self._engine.config_history
        return {"lines": history.diff(_number(body, "older"), _number(body, "newer"))}

    def _config_reload(self, who: Principal, body: Body) -> Body:
        """Put the prefix policies of ``settings`` in force for every object written or read from now on."""
        self._check_own_world()
        given = _settings(_object(body, "settings") or {})
        after, waiting = self._engine.policies.replace(given)
        entry = self._engine.config_history.accept(after, f"{who.name}, reload", self._engine.clock.now())
        remember_settings(self._engine.folder.path, after)
        self._engine.audit.append_done("config.reload", who.name, str(entry.number), sha256=entry.sha256)
        return {"number": entry.number, "prefixes": len(after.policies), "waiting_for_a_new_start": waiting}

    def _check_own_world(self) -> None:
        if self._engine.folder.mark.world != OWN:
            raise ConflictError(
                "the sample world's settings are its own; there is nothing to go back to",
                hint="start your own world with --config or --store",
            )

    def _config_rollback(self, who: Principal, body: Body) -> Body:
        self._check_own_world()
        number = _number(body, "number")
        settings = self._engine.config_history.settings(number)
        author = f"{who.name}, rollback to {number}"
        _, waiting = self._engine.policies.replace(settings)
        entry = self._engine.config_history.accept(settings, author, self._engine.clock.now())
        remember_settings(self._engine.folder.path, settings)
        self._engine.audit.append_done("config.rollback", who.name, str(number), sha256=entry.sha256)
        return {
            "number": entry.number,
            "settings_of": number,
            "waiting_for_a_new_start": waiting,
            "note": "prefix policies now, the rest in force at the next start without --config and --store",
        }


def _allowed(action: Action, act: Callable[[Principal, Body], Body]) -> Act:
    def guarded(who: Any, body: Body) -> Body:
        if not who.may(action):
            raise ForbiddenError(
                "your role does not allow this",
                role=str(who.role),
                action=action.value,
                hint="ask for a token with another role: python -m fabric token add",
            )
        return act(who, body)

    return guarded


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadInputError("a field is missing", field=name, hint=f'send {{"{name}": "..."}}')
    return value


def _texts(body: Body, name: str) -> list[str]:
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadInputError("a field is not a list of texts", field=name)
    return value


def _object(body: Body, name: str) -> Body | None:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise BadInputError("a field is not an object", field=name)
    return value


def _settings(tree: Body) -> Settings:
    try:
        return msgspec.convert(tree, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"a setting is wrong: {error}", hint="check the file: python -m fabric config check"
        ) from error


def _usd(body: Body, name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise BadInputError("a field is not an amount of money", field=name, hint="give US dollars, 0 or more")
    return float(value)


def _number(body: Body, name: str) -> int:
    value = body.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadInputError("a field is not a whole number", field=name)
    return value


def _token(row: TokenRow) -> Body:
    """Return a token without its hash."""
    return {
        "name": row.name,
        "role": row.role,
        "classes": list(row.classes),
        "made": iso(row.made),
        "made_by": row.made_by,
    }
