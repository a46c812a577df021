"""The six component demos: each runs its component alone on real bytes and leaves the specification's report."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, urlsplit

import click

from fabric.core.errors import FabricError
from fabric.core.units import format_size, format_usd
from fabric.core.words import Classification, ObjectPolicy
from fabric.dashboard.ports import Exposure
from fabric.dashboard.serve import DashboardServer, bind_free_port
from fabric.demos.bench import Scratch, hand_over, replaced, scratch
from fabric.demos.sample import CALLER, Outage
from fabric.migration.machine import ENDED, State
from fabric.plane.objects import PutOptions
from fabric.runtime.component import Component

SHOWN = 5
LOADS = ((20, 2.5), (200, 3.0), (20, 2.5))  # requests a second, for seconds
CLIENTS = 8
OBJECTS_SERVED = 8


def placement(data_dir: Path) -> list[Path]:
    """Price and score objects against their real past; nothing is moved."""
    with scratch() as world:
        stored = world.load(60)
        rows = world.import_past()
        click.echo(f"60 objects of {format_size(stored)} written three times; {rows:,} rows of real history read")
        world.run(world.engine.placement, 5.0, lambda: _decided(world) >= 60)
        moves = world.engine.decisions.open_moves(1000)
        click.echo(f"{_decided(world)} decisions with receipts, {len(moves)} of them moves:")
        for move in moves[:SHOWN]:
            saving = format_usd(move.saving_usd_month)
            click.echo(f"  {move.key}: {move.source} -> {move.target}, saves {saving} a month; {move.reason}")
        return _handed(world, world.engine.placement, data_dir)


def migration(data_dir: Path) -> list[Path]:
    """Move what placement decided: verified on both sides, journaled; then undo one move."""
    with scratch() as world:
        world.load(25)
        world.import_past()
        world.run(world.engine.placement, 5.0, lambda: bool(world.engine.decisions.open_moves(3)))
        jobs, engine = world.engine.jobs, world.engine.migration

        def ended() -> bool:
            return bool(jobs.counts()) and not jobs.in_states([s for s in State if s not in ENDED])

        world.run(engine, 7.0, ended)
        for job in jobs.page(limit=SHOWN)[0]:
            click.echo(f"  {job.key}: {job.source} -> {job.target}, {format_size(job.bytes)}, {job.state}")
        done = jobs.in_states([State.COMPLETED])
        if done:
            engine.roll_back(done[0].id, "demo")
            world.run(engine, 3.0, lambda: jobs.get(done[0].id).state == State.ROLLED_BACK)
            click.echo(f"undone again: {done[0].key} is {jobs.get(done[0].id).state}")
        return _handed(world, engine, data_dir)


def streaming(data_dir: Path) -> list[Path]:
    """Serve objects over HTTP and watch the accesses of real clients: slow, fast, slow again."""
    with scratch() as world:
        world.load(OBJECTS_SERVED)
        listener = bind_free_port("127.0.0.1", 0, 0)
        server = DashboardServer(world.engine.web(Exposure.LOOPBACK), listener, world.clock)
        component = world.engine.streaming
        server.start()
        try:
            for rate, seconds in LOADS:
                asked = _under_load(world, server.url, rate, seconds)
                click.echo(f"  {asked} GETs over HTTP in {seconds:.0f} s")
            world.run(component, 1.5)
        finally:
            server.stop()
        click.echo(f"{world.engine.log.end} accesses in the durable log, {len(world.engine.history)} objects known")
        return _handed(world, component, data_dir)


def prediction(data_dir: Path) -> list[Path]:
    """Learn from the real past of 339 objects and forecast their next week."""
    with scratch() as world:
        rows = world.import_past()
        click.echo(f"{rows:,} rows of real history; fitting in a process of its own")
        component = world.engine.prediction
        world.run(component, 15.0, lambda: bool(world.engine.forecasts.runs(1)))
        world.run(component, 0.3)
        for forecast in list(world.engine.forecasts.latest([o.key for o in world.trace.objects]).values())[:SHOWN]:
            click.echo(
                f"  {forecast.key}: {forecast.expected:.1f} reads next week ({forecast.low:.1f} to "
                f"{forecast.high:.1f}), {forecast.last_week:.0f} last week; {forecast.method}"
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
        world.load(20)
        world.import_past()
        world.run(world.engine.placement, 3.0, lambda: _decided(world) >= 20)
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


def _decided(world: Scratch) -> int:
    totals = world.engine.decisions.totals()
    return totals.kept + totals.refused + totals.moves_open


def _handed(world: Scratch, component: Component, data_dir: Path) -> list[Path]:
    return hand_over(world.publish(component), data_dir)


def _under_load(world: Scratch, url: str, rate: float, seconds: float) -> int:
    """Let CLIENTS read objects over HTTP at ``rate`` together while the component ticks; return the answers."""
    keys = [item.key for item in sorted(world.trace.objects[:OBJECTS_SERVED], key=lambda item: item.stored_bytes)[:4]]
    ended, counts = threading.Event(), [0] * CLIENTS

    def client(number: int) -> None:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        next_at = time.monotonic()
        while not ended.is_set():
            connection.request(
                "GET", "/api/objects/" + quote(keys[counts[number] % len(keys)]), headers={"Range": "bytes=0-1023"}
            )
            connection.getresponse().read()
            counts[number] += 1
            next_at += CLIENTS / rate
            ended.wait(max(0.0, next_at - time.monotonic()))
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        world.run(world.engine.streaming, seconds)
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    return sum(counts)
