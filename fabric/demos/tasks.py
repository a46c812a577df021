"""The six component demos: each runs its component alone on real bytes and leaves the specification's report."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from fabric.app.web import pages
from fabric.core.errors import FabricError, ForbiddenError, UnavailableError
from fabric.core.units import format_size, format_usd
from fabric.core.words import Classification, ObjectPolicy, Place
from fabric.dashboard.ports import Exposure
from fabric.dashboard.serve import DashboardServer, bind_free_port
from fabric.demos import moving
from fabric.demos.bench import Scratch, hand_over, replaced, scratch
from fabric.demos.origin import Clients, Origin, Shipper
from fabric.demos.sample import CALLER, Outage
from fabric.demos.servers import Server, servers
from fabric.demos.world import SampleObject
from fabric.migration.machine import State
from fabric.plane.objects import PutOptions
from fabric.runtime.component import Component

SHOWN = 5
CALM_RATE, BUSY_RATE = 20.0, 3000.0  # requests a second that the clients ask of the web server
BUSY_REQUESTS = 12_000  # more than 1000 a second over a window of 10 s
FILES_SERVED = 4
TREES = 20  # a third of the default: enough to show the forest's part
OTHERS_DAYS = 7.0  # of the past of objects that a demo does not load
PATIENCE_SECONDS = 90.0  # at the most, on a machine that is busy with much else


def placement(data_dir: Path) -> list[Path]:
    """Price and score objects against their real past; nothing is moved."""
    with scratch() as world:
        stored = world.load(40)
        rows = world.import_past(OTHERS_DAYS)
        click.echo(f"40 objects of {format_size(stored)} written three times; {rows:,} rows of real history read")
        _decide(world, 40)
        moves = world.engine.decisions.open_moves(1000)
        click.echo(f"{_decided(world)} decisions with receipts, {len(moves)} of them moves:")
        for move in moves[:SHOWN]:
            saving = format_usd(move.saving_usd_month)
            click.echo(f"  {move.key}: {move.source} -> {move.target}, saves {saving} a month; {move.reason}")
        return _handed(world, world.engine.placement, data_dir)


def migration(data_dir: Path) -> list[Path]:
    """Move between two real servers what placement and the demo decided: verified, journaled; then undo one move."""
    with servers() as found, tempfile.TemporaryDirectory(prefix="fabric-demo-secret-") as secret:
        click.echo(moving.told(found))
        with scratch(lambda settings: moving.over_servers(settings, found, Path(secret, "s3"))) as world:
            return _moved(world, found, data_dir)


def _moved(world: Scratch, found: list[Server], data_dir: Path) -> list[Path]:
    world.load(14)
    world.import_past(OTHERS_DAYS)
    _decide(world, 14)
    click.echo(f"{moving.order_moves(world)} moves ordered from {moving.ENDS[0]} to {moving.ENDS[1]}")
    jobs, engine = world.engine.jobs, world.engine.migration
    moving.carry_out(world, PATIENCE_SECONDS)
    for job in jobs.page(limit=SHOWN)[0]:
        click.echo(f"  {job.key}: {job.source} -> {job.target}, {format_size(job.bytes)}, {job.state} {job.reason}")
    if first := next(iter(jobs.in_states([State.COMPLETED])), None):
        engine.roll_back(first.id, "demo")
        world.run(engine, 5.0, lambda: jobs.get(first.id).state == State.ROLLED_BACK)
        click.echo(f"undone again: {first.key} is {jobs.get(first.id).state}")
    done = jobs.in_states([State.COMPLETED])
    click.echo(moving.summary(done, [len(moving.stored_at_target(world, job, found)) for job in done]))
    world.run(engine, 0.6)
    return _handed(world, engine, data_dir)


def streaming(data_dir: Path) -> list[Path]:
    """Follow a live web server's access log: few requests, thousands a second, few again."""
    with scratch() as world, _followed(world) as (origin, clients, shipper):
        component = world.engine.streaming
        windows = world.engine.measures

        def window() -> float:
            found = [measure.value for measure in windows.snapshot() if measure.name == "window_seconds"]
            return found[-1] if found else 10.0

        began = origin.answered
        clients.rate = BUSY_RATE
        world.run(component, 12.0, lambda: origin.answered - began >= BUSY_REQUESTS)
        click.echo(f"  {origin.answered - began} GETs answered while the clients hurry")
        clients.rate = CALM_RATE
        world.run(component, 10.0, lambda: window() < 10)
        click.echo(f"  the window is {window():.0f} s; the clients are calm again")
        world.run(component, 8.0, lambda: window() == 10)
        clients.stop()
        shipper.stop()
        world.run(component, 1.2, lambda: world.engine.history.offset == origin.answered)
        world.run(component, 1.1)
        for row in reversed(component.page("windows", limit=1000).rows):
            click.echo(
                f"  window of {row['size']} s: {row['events']} events, next {row['next_size']} s: {row['reason']}"
            )
        click.echo(f"{origin.answered} lines in the server's log, {world.engine.log.end} events in the durable log")
        return _handed(world, component, data_dir)


def prediction(data_dir: Path) -> list[Path]:
    """Learn from the real past of 339 objects and forecast their next week."""
    with scratch(lambda s: replaced(s, prediction={"trees": TREES})) as world:
        rows = world.import_past()
        click.echo(f"{rows:,} rows of real history; fitting in a process of its own")
        component, forecasts = world.engine.prediction, world.engine.forecasts
        world.run(component, PATIENCE_SECONDS, lambda: bool(forecasts.runs(1)))
        run = next(iter(forecasts.runs(1)), None)
        if run is None:
            raise UnavailableError("the models were not fitted in time", hint="try again on a machine less busy")
        weights = ", ".join(f"{name} {weight:.2f}" for name, weight in run.weights.items())
        click.echo(f"{run.objects} forecasts by {run.version} in {run.seconds:.1f} s; weights: {weights}")
        busiest = sorted(forecasts.latest([o.key for o in world.trace.objects]).values(), key=lambda f: -f.expected)
        for forecast in busiest[:SHOWN]:
            each = ", ".join(f"{name} {reads:.0f}" for name, reads in forecast.models.items())
            click.echo(
                f"  {forecast.key}: {forecast.expected:.1f} reads next week ({forecast.low:.1f} to "
                f"{forecast.high:.1f}), {forecast.last_week:.0f} last week; alone: {each}"
            )
        return _handed(world, component, data_dir)


def consistency(data_dir: Path) -> list[Path]:
    """Write replicas, take a store away, read on, bring it back and repair."""
    with scratch(lambda s: replaced(s, consistency={"health_seconds": 1.0})) as world:
        world.load(20)
        component, store = world.engine.consistency, "private"
        world.run(component, 1.5)
        outage = Outage(world.sample.switches[store])
        outage.fail()
        world.run(component, 3.0, lambda: not world.engine.health.healthy(store))
        keys = [item.key for item in world.trace.objects[:20]]
        read = sum(world.plane.read(key) for key in keys)
        click.echo(f"{store} is {world.engine.health.state(store)}: all {len(keys)} objects read, {format_size(read)}")
        world.plane.write("workload/during-outage", [b"x" * 65536], ObjectPolicy())
        outage.heal()
        world.run(component, 8.0, lambda: world.engine.health.state(store) == "UP")
        click.echo(f"{store} is {world.engine.health.state(store)} again")
        return _handed(world, component, data_dir)


def security(data_dir: Path) -> list[Path]:
    """Encrypt by class and place, refuse what may not lie in a cloud, fire an alert from a measured figure."""
    with scratch(lambda s: replaced(s, thresholds={"cost_usd_month": 0.001})) as world:
        for name in Classification:
            policy = ObjectPolicy(classification=name)
            done = world.engine.objects.put(f"demo/{name}", [name.encode() * 1000], PutOptions(policy=policy), CALLER)
            assert done.version is not None
            where = ", ".join(f"{replica.suite} in {replica.place}" for replica in done.version.replicas)
            click.echo(f"  {name}: {where}")
        _refused(world)
        click.echo(f"{world.load(20):,} bytes of the archive, and what encrypts their copies:")
        for suite, copies in sorted(_suites(world).items()):
            click.echo(f"  {copies} copies {suite}")
        world.import_past(OTHERS_DAYS)
        _decide(world, 20)
        world.run(world.engine.security, 4.0, lambda: any(a.state == "firing" for a in world.engine.alerts.current()))
        for alert in world.engine.alerts.current():
            click.echo(f"  alert {alert.rule}: {alert.state}, measured {alert.value:.6g}")
        world.run(world.engine.security, 0.6)
        return _handed(world, world.engine.security, data_dir)


DEMOS: dict[int, tuple[str, Callable[[Path], list[Path]]]] = {
    1: ("Data placement", placement),
    2: ("Multi-cloud migration", migration),
    3: ("Real-time streaming", streaming),
    4: ("Prediction", prediction),
    5: ("Consistency and availability", consistency),
    6: ("Security and alerts", security),
}


def run_task(number: int, arguments: list[str]) -> int:
    """Run demo ``number`` (1 to 6); return the exit code."""
    title, demo = DEMOS[number]
    folder = click.Path(path_type=Path, file_okay=False)
    command = click.Command(
        f"demo_task{number}_complete.py",
        params=[click.Option(["--data-dir"], type=folder, default=Path("data"), show_default=True)],
        callback=lambda data_dir: _run(title, demo, data_dir),
        help=f"{title}, alone and on real bytes in a scratch folder.",
    )
    try:
        command.main(arguments, prog_name=f"demo_task{number}_complete.py", standalone_mode=False)
    except FabricError as error:
        click.echo(f"Error: {error}", err=True)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


def _run(title: str, demo: Callable[[Path], list[Path]], data_dir: Path) -> None:
    began = time.monotonic()
    click.echo(f"{title}, in a scratch folder, with the sample world's real sizes and reads")
    for file in demo(data_dir):
        click.echo(f"report: {file} ({file.stat().st_size:,} bytes)")
    click.echo(f"done in {time.monotonic() - began:.1f} s")


def _decide(world: Scratch, objects: int) -> None:
    """Let placement decide about so many objects, once its ledgers have read the past."""
    ledgers = world.engine.ledgers
    world.run(world.engine.placement, PATIENCE_SECONDS, lambda: not ledgers.reading and _decided(world) >= objects)


def _decided(world: Scratch) -> int:
    totals = world.engine.decisions.totals()
    return totals.kept + totals.refused + totals.moves_open


def _handed(world: Scratch, component: Component, data_dir: Path) -> list[Path]:
    return hand_over(world.publish(component), data_dir)


def _refused(world: Scratch) -> None:
    """Try to put a confidential object into a cloud, past the chooser of places."""
    policy, cloud = ObjectPolicy(classification=Classification.CONFIDENTIAL), Place.parse("aws/standard")
    try:
        world.engine.replication.write("demo/leak", policy, [b"secret"], [cloud])
    except ForbiddenError as error:
        click.echo(f"  confidential in {cloud.name}: {error.message}")


def _suites(world: Scratch) -> Counter[str]:
    """Count the loaded objects' copies by what encrypts them and where."""
    found: Counter[str] = Counter()
    for item in world.trace.objects[:20]:
        head = world.engine.heads.get(item.key)
        assert head is not None
        for replica in head.versions[0].replicas:
            found[f"{item.policy.classification}: {replica.suite} in {Place.parse(replica.place).store}"] += 1
    return found


@contextmanager
def _followed(world: Scratch) -> Iterator[tuple[Origin, Clients, Shipper]]:
    """Run a web server over files of the archive, calm clients, and what ships its log to the fabric over HTTP."""
    files = {item.key: b"".join(item.content()) for item in _smallest(world)}
    log = world.folder.path / "access.log"
    origin, web = Origin(files, log), _web(world)
    origin.start()
    clients = Clients(origin.port, list(files), CALM_RATE)
    shipper = Shipper(log, web.url, world.engine.mark.token)
    web.start()
    clients.start()
    shipper.start()
    click.echo("a web server answers range GETs of its clients and keeps an access log;")
    click.echo("its new lines go to POST /api/events of the fabric, over HTTP, five times a second")
    try:
        yield origin, clients, shipper
    finally:
        clients.stop()
        shipper.stop()
        origin.stop()
        web.stop()


def _web(world: Scratch) -> DashboardServer:
    return DashboardServer(pages(world.engine, Exposure.LOOPBACK), bind_free_port("127.0.0.1", 0, 0), world.clock)


def _smallest(world: Scratch) -> list[SampleObject]:
    return sorted(world.trace.objects, key=lambda item: item.stored_bytes)[:FILES_SERVED]
