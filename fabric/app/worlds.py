"""Which world a start is for, and what the sample world brings with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fabric.app.engine import Engine
from fabric.app.remembered import last_settings
from fabric.core.config import Settings, with_environment
from fabric.runtime.folder import folder_world
from fabric.storage.fleet import Wrap

SAMPLE, OWN = "sample", "own"


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
