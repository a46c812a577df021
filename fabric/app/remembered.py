"""The settings that a data folder was last run with, kept beside its catalog."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fabric.catalog.confighistory import canonical
from fabric.core.config import Settings
from fabric.core.errors import ConfigError, CorruptError
from fabric.core.files import write_whole

SETTINGS_FILE = "settings.json"


def last_settings(data_dir: Path) -> Settings:
    """Return the settings that a folder of one's own world was last run with; ConfigError when there are none."""
    try:
        return msgspec.json.decode((data_dir / SETTINGS_FILE).read_bytes(), type=Settings)
    except FileNotFoundError:
        pass
    except msgspec.DecodeError as error:
        raise CorruptError(
            "the data folder's settings are damaged", file=SETTINGS_FILE, hint="give --config FILE or --store NAME=URL"
        ) from error
    raise ConfigError(
        "the data folder does not say which stores it is about",
        path=str(data_dir),
        hint="give --config FILE or --store NAME=URL",
    )


def remember_settings(data_dir: Path, settings: Settings) -> None:
    """Keep what the folder is run with beside its catalog, which may be lost."""
    write_whole(data_dir / SETTINGS_FILE, canonical(settings), durable=True, mode=0o600)
