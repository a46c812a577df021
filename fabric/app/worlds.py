"""Which world a start is for, and what the sample world brings with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from fabric.catalog.confighistory import canonical
from fabric.core.config import Settings, with_environment
from fabric.core.errors import ConfigError, CorruptError
from fabric.core.files import write_whole
from fabric.runtime.folder import folder_world
from fabric.storage.fleet import Wrap

if TYPE_CHECKING:
    from fabric.app.engine import Engine

SAMPLE, OWN = "sample", "own"
SETTINGS_FILE = "settings.json"


class SampleWorld(Protocol):
    """The sample world, as far as a start needs it (`fabric.demos.sample.Sample`)."""

    def settings(self, data_dir: Path) -> Settings:
        """Return the sample's settings; its places lie in the data folder."""

    @property
    def wrap(self) -> Mapping[str, Wrap]:
        """Return what to put around each store: its class's first-byte latency, and a switch that makes it fail."""

    @property
    def progress(self) -> Callable[[], list[dict[str, Any]]]:
        """Return the loading's progress for the reports."""

    @property
    def rules(self) -> Sequence[tuple[str, str]]:
        """Return what is real and what is made up: (what, by which rule)."""

    def start(self, engine: Engine, *, workload: bool) -> None:
        """Load the objects, then read and write like users where ``workload`` is true."""

    def stop(self) -> None:
        """End the workload."""


def settings_of(data_dir: Path, own: Settings | None, sample: SampleWorld) -> tuple[str, Settings]:
    """Return (world, settings): what was given, what the folder was last run with, or the sample world."""
    if own is not None:
        return OWN, own
    if folder_world(data_dir) == OWN:
        return OWN, with_environment(last_settings(data_dir))
    return SAMPLE, with_environment(sample.settings(data_dir))


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
