"""A scratch world in which one component is run by hand: a real engine over real folders, without its threads."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
import numpy as np

from fabric.app.engine import Engine
from fabric.app.secrets import report_key
from fabric.app.worlds import SAMPLE
from fabric.core.clock import SECONDS_PER_DAY, SystemClock
from fabric.core.config import Settings
from fabric.core.errors import FabricError
from fabric.core.files import write_whole
from fabric.core.log import start_logging
from fabric.demos.sample import EnginePlane, Sample
from fabric.demos.world import SampleTrace
from fabric.events.build import pick
from fabric.runtime.component import SECTIONS, Component
from fabric.runtime.folder import DataFolder, read_engine
from fabric.runtime.reports import ReportPublisher

REPORT_GOOD_FOR_SECONDS = 3600.0  # a demo's report is not renewed
POLL_SECONDS = 0.02
LOADERS = 4

Adjust = Callable[[Settings], Settings]


class Scratch:
    """The sample world in a folder of its own, with only as many objects as a demo needs."""

    def __init__(self, folder: Path, adjust: Adjust) -> None:
        start_logging("ERROR")  # a scratch folder's new keys and jobs are nobody's news
        self.clock, self.sample = SystemClock(), Sample()
        self.folder = DataFolder(folder, SAMPLE, self.clock)
        self.folder.take_lease()
        settings = adjust(self.sample.settings(folder))
        self.engine = Engine(settings, self.folder, self.clock, author="demo", wrap=self.sample.wrap)
        self.engine.publish("in-process")
        self.engine.fleet.start()
        self.plane = EnginePlane(self.engine)
        self.trace = SampleTrace(self.clock.now())
        self._loaded: set[str] = set()
        self._started: list[Component] = []
        self._publisher = ReportPublisher(
            self.folder.exports, "demo", report_key(folder), self.clock, SAMPLE, strict=True
        )

    def load(self, count: int) -> int:
        """Write the first ``count`` objects into their first places; return their stored bytes."""
        items = self.trace.objects[:count]
        self._loaded = {item.key for item in items}
        with (
            ThreadPoolExecutor(LOADERS) as pool,
            click.progressbar(length=count, label=f"{count} objects written and replicated") as bar,
        ):
            for _ in pool.map(self.plane.load, items):
                bar.update(1)
        return sum(item.stored_bytes for item in items)

    def import_past(self, days: float | None = None) -> int:
        """Append the past, or its last ``days``, and bring the history up to it; return its rows.

        Where objects are loaded: the whole past of these, and the last ``days`` of the others.
        """
        since = self.clock.now() - days * SECONDS_PER_DAY if days else 0.0
        for batch in self.trace.history():
            wanted = batch.time >= since
            wanted |= np.fromiter((key in self._loaded for key in batch.key), np.bool_, len(batch))
            if wanted.any():
                self.engine.log.append(pick(batch, wanted))
        while self.engine.history.catch_up(self.engine.log):
            pass
        return self.engine.log.end

    def run(self, component: Component, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Tick a component by hand for at most ``seconds``, or until ``until``; it is started on its first run."""
        if component not in self._started:
            component.start()
            self._started.append(component)
        never, end = threading.Event(), self.clock.monotonic() + seconds
        while self.clock.monotonic() < end and not until():
            wait = component.tick()
            self.clock.wait(never, min(wait, POLL_SECONDS))

    def publish(self, component: Component) -> list[Path]:
        """Write the component's reports; return their files."""
        for section, body in component.reports().items():
            self._publisher.publish(section, body, REPORT_GOOD_FOR_SECONDS)
        return [self.folder.exports / SECTIONS[section] for section in component.reports()]

    def close(self) -> None:
        """Stop what was started and give up the lease."""
        for component in reversed(self._started):
            component.stop()
        self.engine.stop()
        self.folder.release()


@contextmanager
def scratch(adjust: Adjust = lambda settings: settings) -> Iterator[Scratch]:
    """Give a scratch world in a temporary folder, which is removed."""
    folder = Path(tempfile.mkdtemp(prefix="fabric-demo-"))
    try:
        world = Scratch(folder, adjust)
        try:
            yield world
        finally:
            world.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def hand_over(files: list[Path], data_dir: Path) -> list[Path]:
    """Copy reports into ``data_dir/exports``, or into its ``demo`` folder while an engine holds it; say which.

    A report copied beside an engine's own would be taken for a file that somebody edited, so it keeps out.
    """
    exports = data_dir / "exports"
    if read_engine(data_dir) is not None:
        exports /= "demo"
        click.echo(f"An engine holds {data_dir}: the report goes to {exports} instead.")
    try:
        exports.mkdir(parents=True, exist_ok=True)
        for file in files:
            write_whole(exports / file.name, file.read_bytes(), durable=False)
    except OSError as error:
        raise FabricError(f"the report cannot be written: {error.strerror}", path=str(exports)) from error
    return [exports / file.name for file in files]


def replaced(settings: Settings, **sections: dict[str, object]) -> Settings:
    """Return ``settings`` with fields of sections replaced."""
    fresh = {name: msgspec.structs.replace(getattr(settings, name), **fields) for name, fields in sections.items()}
    return msgspec.structs.replace(settings, **fresh)
