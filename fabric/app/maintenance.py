"""Work on a data folder whose engine is stopped, and on stores that no engine knows yet."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from fabric.app.keys import kept_folders, key_folders, open_keys
from fabric.app.prices import priced
from fabric.app.remembered import SETTINGS_FILE
from fabric.app.worlds import SampleWorld, settings_of
from fabric.catalog.backup import restore, saved
from fabric.catalog.database import Database
from fabric.catalog.headlog import HeadLog
from fabric.catalog.jobs import Jobs
from fabric.catalog.rebuild import rebuild, set_aside
from fabric.core.clock import SystemClock
from fabric.core.config import Settings, StoreSettings, load_settings, store_address
from fabric.core.errors import ConflictError, CorruptError
from fabric.core.files import sync_directory
from fabric.core.words import Mode
from fabric.runtime.folder import DataFolder, read_engine
from fabric.security.audit import verify
from fabric.security.keyfile import FILE_NAME
from fabric.security.vault import Vault
from fabric.storage.connect import connect
from fabric.storage.fleet import Fleet

SHOWN = 100

Facts = dict[str, Any]


def connect_store(url: str, mode: str) -> Facts:
    """Test the store at ``url`` for a mode; in look and shadow nothing is written and no object is opened."""
    found = connect("store", StoreSettings(url=url, mode=Mode(mode)), SystemClock())
    checks = [
        {"name": check.name, "ok": check.ok, "detail": check.detail, "permission": check.permission}
        for check in found.checks
    ]
    return {
        "ok": found.ok,
        "exit_code": next((check.exit_code for check in found.checks if not check.ok), 0),
        "url": url,
        "zone": found.address.zone.value,
        "provider": found.address.provider,
        "mode": found.mode.value,
        "checks": checks,
        "access_times": found.atime.why,
        "needed": found.rights,
        "policy": found.policy,
    }


def check_settings(file: Path) -> list[Facts]:
    """Return the stores that the settings ``file`` names; ConfigError says what is wrong in it and where."""
    settings = load_settings(file)
    priced(settings)
    addresses = {name: store_address(name, store) for name, store in settings.stores.items()}
    return [
        {
            "store": name,
            "zone": address.zone.value,
            "provider": address.provider,
            "classes": list(address.classes),
            "mode": settings.stores[name].mode.value,
        }
        for name, address in addresses.items()
    ]


def restore_folder(archive: Path, data_dir: Path) -> Facts:
    """Make a data folder from an archive; ConflictError when the folder holds something.

    Key folders of the settings get their files back where they are gone; one that still holds a key table is newer
    than the archive and stays as it is.
    """
    if data_dir.exists() and any(data_dir.iterdir()):
        raise ConflictError("the data folder is not empty", path=str(data_dir), hint="give another with --data-dir")
    settings = _saved_settings(archive)
    folders = kept_folders(data_dir, settings)
    living = [name for name, folder in folders.items() if (folder / FILE_NAME).exists()]
    folders = {name: folder for name, folder in folders.items() if name not in living}
    (data_dir / "catalog").mkdir(parents=True, exist_ok=True, mode=0o700)
    names = ("fabric.json", "settings.json", "report.key", "session.key", "freeze.json", "applied.json")
    files = {name: data_dir / name for name in names}
    done = restore(archive, catalog=data_dir / "catalog" / "catalog.db", folders=folders, files=files)
    with closing(HeadLog(key_folders(data_dir, settings))) as log:
        log.mark_restored()  # what the log has beyond the catalog was acknowledged
    return {"restored": str(data_dir), "files": len(done)}


def _saved_settings(archive: Path) -> Settings:
    data = saved(archive, SETTINGS_FILE)
    return Settings() if data is None else msgspec.json.decode(data, type=Settings)


def rebuild_catalog(data_dir: Path, own: Settings | None, *, sample: SampleWorld) -> Facts:
    """Make the catalog anew from the stores, the key table and the head log; the old one is set aside.

    Raises:
        InUseError: an engine holds the folder; stop it first.
        ConfigError: nothing says which stores the folder is about.
    """
    clock = SystemClock()
    world, settings = settings_of(data_dir, own, sample)
    folder = DataFolder(data_dir, world, clock)
    folder.take_lease()
    try:
        catalog = folder.path / "catalog" / "catalog.db"
        building = catalog.with_name("catalog.building")  # a rebuild that is cut off leaves no half catalog behind
        for suffix in ("", "-wal", "-shm"):
            building.with_name(building.name + suffix).unlink(missing_ok=True)
        kept = set_aside(catalog)
        keys, _root = open_keys(folder.path, settings, clock)
        fleet = Fleet(settings, clock)
        database = Database(building)
        database.start()
        try:
            stores = {m.name: m.store for m in fleet.members if not m.adopted}
            with closing(HeadLog(key_folders(folder.path, settings))) as log:
                done = rebuild(stores, Vault(keys).header, log, database)
        finally:
            database.stop()
            fleet.close()
        for suffix in ("-wal", ""):  # what was not folded in yet goes with it
            if building.with_name(building.name + suffix).exists():
                building.with_name(building.name + suffix).rename(catalog.with_name(catalog.name + suffix))
        sync_directory(catalog.parent)
    finally:
        folder.release()
    return {
        "objects": done.heads,
        "deleted": done.deleted,
        "replicas": done.replicas,
        "replicas_gone": len(done.lost),
        "objects_without_bytes": done.missing[:SHOWN],
        "unknown_versions": len(done.unknown),
        "damaged_blobs": done.damaged[:SHOWN],
        "stores_that_did_not_answer": done.unreachable,
        "old_catalog": str(kept) if kept else None,
    }


def verify_audit(data_dir: Path) -> Facts:
    """Check the audit chain and the migrations' journal of a data folder; works beside a running engine."""
    report = dataclasses.asdict(verify(data_dir / "audit")) | {"journal_rows": 0}
    catalog = data_dir / "catalog" / "catalog.db"
    if report["ok"] and catalog.exists():
        database = Database(catalog)
        try:
            report["journal_rows"] = Jobs(database).verify_journal()
        except CorruptError as error:
            report |= {"ok": False, "problem": str(error)}
        finally:
            database.stop()
    running = read_engine(data_dir)
    return report | {"engine": running.pid if running else None}
