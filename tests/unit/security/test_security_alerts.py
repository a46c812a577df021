from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabric.catalog.alerts import Alert, AlertRows
from fabric.catalog.database import Database
from fabric.core.clock import ManualClock
from fabric.core.config import Thresholds, load_settings
from fabric.core.errors import BadInputError, ConfigError, ConflictError, NotFoundError, UnavailableError
from fabric.runtime.measures import Measures
from fabric.security.alerts import Alerts
from fabric.security.rules import Severity, built_in_rules
from fabric.security.throughput import Throughput
from fabric.security.webhook import BACKOFF_MOST_SECONDS, Webhook, post_json, webhook_for


class Watch:
    """The alert engine on a real catalog with a clock that moves by hand."""

    def __init__(self, database: Database, thresholds: Thresholds | None = None) -> None:
        self.clock = ManualClock()
        self.measures = Measures(self.clock)
        self.rows = AlertRows(database)
        self.lines: list[str] = []
        self.limits = thresholds or Thresholds()
        self.alerts = self.engine()

    def engine(self) -> Alerts:
        made = Alerts(
            self.rows,
            built_in_rules(self.limits),
            self.clock,
            lambda action, who, subject, **_: self.lines.append(action),
        )
        made.load()
        return made

    def look(self, seconds: float = 0.5) -> list[tuple[str, str]]:
        self.clock.advance(seconds)
        return [(event, alert.rule) for event, alert in self.alerts.look(self.measures.snapshot())]

    def see(self, name: str, value: float, **labels: str) -> list[tuple[str, str]]:
        self.measures.gauge(name, value, **labels)
        return self.look()

    def only(self) -> Alert:
        (alert,) = self.alerts.current()
        return alert


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "catalog.db")
    database.start()
    yield database
    database.stop()


@pytest.fixture
def watch(database: Database) -> Watch:
    return Watch(database)


@pytest.mark.item(82)
def test_a_bill_above_its_limit_fires_once_and_resolves_when_it_is_low_again(watch: Watch) -> None:
    assert watch.see("monthly_cost_usd", 99.9, scope="total") == []
    assert watch.see("monthly_cost_usd", 100.1, scope="total") == [("fired", "monthly_cost")]
    for value in (100.5, 99.0, 101.0, 96.0, 100.2):
        assert watch.see("monthly_cost_usd", value, scope="total") == []
    assert watch.see("monthly_cost_usd", 94.0, scope="total") == [("resolved", "monthly_cost")]
    assert watch.rows.count() == 1


def test_the_bill_of_one_store_is_not_the_total(watch: Watch) -> None:
    assert watch.see("monthly_cost_usd", 5000.0, scope="nas") == []


@pytest.mark.item(83)
def test_slow_reads_fire_with_the_measured_quantile(watch: Watch) -> None:
    assert watch.see("read_latency_p99_ms", 499.0, store="nas") == []
    assert watch.see("read_latency_p99_ms", 733.0, store="nas") == [("fired", "read_latency")]
    assert (watch.only().value, watch.only().threshold, watch.only().labels) == (733.0, 500.0, {"store": "nas"})


@pytest.mark.item(84)
def test_a_store_filled_to_86_percent_fires_and_its_neighbour_does_not(watch: Watch) -> None:
    watch.measures.gauge("used_percent", 84.0, store="cloud")
    assert watch.see("used_percent", 86.0, store="nas") == [("fired", "capacity")]
    assert watch.only().labels == {"store": "nas"}


def transfer(watch: Watch, throughput: Throughput, rate: float, times: int, size: int = 1 << 20) -> list[str]:
    """Let a store answer ``times`` writes at ``rate`` bytes per second; return what became of alerts."""
    events = []
    for n in range(times):
        wobble = 1.0 + 0.05 * (n % 3)
        throughput.observe("nas", "put", "hdd", size / rate * wobble, size, True)
        events += [event for event, _ in watch.look()]
    return events


def test_a_burst_that_was_slow_and_over_does_not_fire_while_nothing_more_is_asked(watch: Watch) -> None:
    throughput = Throughput(watch.measures)
    assert transfer(watch, throughput, 1e8, 60) == []
    for _ in range(20):  # at once, between two looks
        throughput.observe("nas", "put", "hdd", (1 << 20) / 5e7, 1 << 20, True)
    assert [event for _ in range(60) for event in watch.look()] == []
    assert transfer(watch, throughput, 5e7, 20) != []


@pytest.mark.item(85)
def test_a_throttled_store_fires_against_its_own_past_and_ends_when_it_is_back(watch: Watch) -> None:
    throughput = Throughput(watch.measures)
    assert transfer(watch, throughput, 1e8, 60) == []
    assert transfer(watch, throughput, 6e7, 40) == ["fired"]
    assert watch.only().rule == "throughput_drop"
    assert 35.0 < watch.only().value < 45.0
    assert transfer(watch, throughput, 6e7, 600) == []  # a slow store does not become the norm
    assert transfer(watch, throughput, 1e8, 30) == ["resolved"]


@pytest.mark.item(85)
def test_a_drop_of_a_quarter_a_quiet_night_and_smaller_objects_are_no_alert(watch: Watch) -> None:
    throughput = Throughput(watch.measures)
    assert transfer(watch, throughput, 1e8, 60) == []
    assert transfer(watch, throughput, 7.5e7, 60) == []
    assert watch.look(3600.0) == []
    assert transfer(watch, throughput, 1e7, 60, size=100_000) == []
    assert transfer(watch, throughput, 1e3, 60, size=1000) == []


@pytest.mark.item(38)
def test_a_buffer_fires_at_80_percent(watch: Watch) -> None:
    assert watch.see("buffer_fill_percent", 79.9, stream="api") == []
    assert watch.see("buffer_fill_percent", 80.1, stream="api") == [("fired", "buffer_fill")]


def test_a_store_that_is_down_explains_its_slowness_and_a_failed_component_is_critical(watch: Watch) -> None:
    watch.measures.gauge("read_latency_p99_ms", 9000.0, store="nas")
    watch.measures.gauge("read_latency_p99_ms", 9000.0, store="cloud")
    assert sorted(watch.see("store_up", 0.0, store="nas")) == [("fired", "read_latency"), ("fired", "store_down")]
    waiting = [alert for alert in watch.alerts.current() if alert.state == "pending"]
    assert [(alert.rule, alert.labels["store"]) for alert in waiting] == [("read_latency", "nas")]
    assert watch.see("store_up", 1.0, store="nas") == [("resolved", "store_down")]
    assert watch.see("component_failed", 1.0, component="migration") == [
        ("fired", "component_failed"),
        ("fired", "read_latency"),
    ]


@pytest.mark.item(127, 128, 129)
def test_the_three_variables_move_the_firing_points(database: Database) -> None:
    variables = {"COST_THRESHOLD": "7", "LATENCY_THRESHOLD": "20", "CAPACITY_THRESHOLD": "50"}
    watch = Watch(database, load_settings(None, variables).thresholds)
    assert watch.see("monthly_cost_usd", 6.9, scope="total") == []
    assert watch.see("monthly_cost_usd", 7.1, scope="total") == [("fired", "monthly_cost")]
    assert watch.see("read_latency_p99_ms", 21.0, store="s") == [("fired", "read_latency")]
    assert watch.see("used_percent", 51.0, store="s") == [("fired", "capacity")]


@pytest.mark.item(86)
def test_a_high_alert_that_nobody_takes_on_escalates_after_one_hour(watch: Watch) -> None:
    watch.see("used_percent", 90.0, store="nas")
    assert watch.only().severity == Severity.HIGH
    watch.measures.gauge("used_percent", 90.0, store="nas")
    assert watch.look(3598.0) == []
    assert watch.look(2.0) == [("escalated", "capacity")]
    assert watch.only().severity == Severity.CRITICAL
    assert watch.look(7200.0) == []


@pytest.mark.item(86)
def test_an_acknowledged_alert_does_not_escalate_and_says_who_took_it_on(watch: Watch) -> None:
    watch.see("used_percent", 90.0, store="nas")
    done = watch.alerts.acknowledge(watch.only().id, "ada")
    assert (done.state, done.acknowledged_by) == ("acknowledged", "ada")
    assert watch.alerts.acknowledge(done.id, "bob").acknowledged_by == "ada"
    assert watch.look(9000.0) == []
    assert watch.lines == ["alert.acknowledged"]
    assert watch.see("used_percent", 50.0, store="nas") == [("resolved", "capacity")]
    with pytest.raises(ConflictError):
        watch.alerts.acknowledge(done.id, "ada")
    with pytest.raises(NotFoundError):
        watch.alerts.acknowledge("none", "ada")


@pytest.mark.item(86)
def test_a_medium_alert_escalates_after_a_day_and_the_deadlines_are_the_specifications(watch: Watch) -> None:
    watch.see("monthly_cost_usd", 200.0, scope="total")
    assert watch.look(86390.0) == []
    assert watch.look(20.0) == [("escalated", "monthly_cost")]
    assert watch.only().severity == Severity.HIGH


@pytest.mark.item(97)
def test_open_alerts_and_history_survive_a_restart(watch: Watch, database: Database) -> None:
    watch.see("used_percent", 90.0, store="nas")
    watch.see("read_latency_p99_ms", 900.0, store="nas")
    watch.see("read_latency_p99_ms", 100.0, store="nas")
    kept = watch.alerts.acknowledge(watch.only().id, "ada")
    database.stop()
    again = Database(database.path)
    again.start()
    watch.rows = AlertRows(again)
    watch.alerts = watch.engine()
    assert watch.only() == kept
    assert watch.look() == []  # told once, not again
    assert [alert.rule for alert in watch.rows.page()] == ["read_latency", "capacity"]
    assert watch.see("used_percent", 1.0, store="nas") == [("resolved", "capacity")]
    assert watch.rows.count(state="resolved") == 2
    again.stop()


def test_without_fresh_figures_a_latency_alert_ends_and_a_capacity_alert_stays(watch: Watch) -> None:
    watch.see("used_percent", 90.0, store="nas")
    watch.see("read_latency_p99_ms", 900.0, store="nas")
    assert watch.look(1000.0) == [("resolved", "read_latency")]
    watch.measures.forget("used_percent", store="nas")
    assert watch.look() == []
    assert watch.only().rule == "capacity"


def test_an_alert_that_flaps_is_told_a_few_times_and_then_held(watch: Watch) -> None:
    events = []
    for _ in range(20):
        events += watch.see("read_latency_p99_ms", 900.0, store="nas")
        events += watch.see("read_latency_p99_ms", 10.0, store="nas")
    assert events.count(("fired", "read_latency")) == 4
    assert watch.only().flapping
    events = []
    for _ in range(6):
        watch.measures.gauge("read_latency_p99_ms", 10.0, store="nas")
        events += watch.look(60.0)
    assert events == [("resolved", "read_latency")]


def test_a_silenced_alert_is_kept_and_shown_but_nobody_is_told(watch: Watch) -> None:
    watch.alerts.silence("capacity", {"store": "nas"}, 60.0, "ada", "disk swap")
    watch.see("used_percent", 90.0, store="nas")
    watch.see("used_percent", 90.0, store="cloud")
    assert len(watch.alerts.current()) == 2
    assert [owed.alert.labels["store"] for owed in watch.rows.owed(10)] == ["cloud"]
    with pytest.raises(BadInputError):
        watch.alerts.silence("", {}, 60.0, "ada", " ")


def test_when_the_catalog_cannot_keep_an_alert_it_is_not_shown_either(watch: Watch, database: Database) -> None:
    database.stop()
    with pytest.raises(UnavailableError):
        watch.see("used_percent", 90.0, store="nas")
    assert watch.alerts.current() == []
    database.start()
    assert watch.look() == [("fired", "capacity")]


def test_history_is_searched_and_paged_by_key(watch: Watch) -> None:
    for n in range(12):
        watch.see("used_percent", 90.0, store=f"nas{n}")
    first = watch.rows.page(limit=5)
    rest = watch.rows.page(limit=50, before=first[-1].id)
    assert [alert.labels["store"] for alert in (*first, *rest)] == [f"nas{n}" for n in reversed(range(12))]
    assert [alert.labels["store"] for alert in watch.rows.page(search="nas7")] == ["nas7"]
    assert watch.rows.page(search="100%_") == []


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[dict[str, object]], list[int]]]:
    """A real HTTP receiver: its URL, what it got, and the statuses it answers with before 204."""
    got: list[dict[str, object]] = []
    answers: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = answers.pop(0) if answers else 204
            if status < 300:
                got.append(json.loads(body))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook?x=1", got, answers
    server.shutdown()
    server.server_close()


def test_the_webhook_gets_each_alert_once_in_groups_and_again_after_an_outage(
    watch: Watch, receiver: tuple[str, list[dict[str, object]], list[int]]
) -> None:
    url, got, answers = receiver
    webhook = Webhook(url, watch.rows, watch.clock)
    for store in ("a", "b"):
        watch.measures.gauge("used_percent", 90.0, store=store)
    watch.look()
    answers += [500, 503]
    waits = [webhook.deliver() for _ in range(3)]
    assert waits == [1.0, 2.0, 0.5]
    (message,) = got
    assert (message["event"], message["rule"], len(message["alerts"])) == ("fired", "capacity", 2)
    webhook.deliver()
    assert len(got) == 1
    watch.see("used_percent", 1.0, store="a")
    webhook.deliver()
    assert [one["event"] for one in got] == ["fired", "resolved"]
    assert watch.rows.owed_count() == 0


def test_a_receiver_that_stays_away_is_tried_ever_more_rarely(watch: Watch) -> None:
    def refuse(url: str, body: bytes) -> None:
        raise UnavailableError("away")

    watch.see("used_percent", 90.0, store="nas")
    webhook = Webhook("https://alerts.example/x", watch.rows, watch.clock, post=refuse)
    assert [webhook.deliver() for _ in range(12)][-1] == BACKOFF_MOST_SECONDS
    assert webhook.state()["state"] == "away"
    assert watch.rows.owed_count() == 1


def test_a_webhook_that_nobody_answers_or_that_is_no_url_says_so(watch: Watch) -> None:
    with pytest.raises(UnavailableError):
        post_json("http://127.0.0.1:9/x", b"{}")
    for url in ("ftp://x/y", "not a url", "https://"):
        with pytest.raises(ConfigError, match=r"https://HOST/PATH"):
            Webhook(url, watch.rows, watch.clock)


def test_the_webhooks_url_may_be_a_secret_reference(watch: Watch) -> None:
    secrets = {"env:HOOK": "https://alerts.example/token\n"}
    assert webhook_for("", watch.rows, watch.clock, secrets.__getitem__) is None
    for setting in ("env:HOOK", "https://alerts.example/token"):
        made = webhook_for(setting, watch.rows, watch.clock, secrets.__getitem__)
        assert made is not None
        assert made.state()["host"] == "alerts.example"
        assert "token" not in str(made.state())


def test_where_there_is_nobody_to_deliver_to_nothing_is_owed(watch: Watch, database: Database) -> None:
    watch.see("used_percent", 90.0, store="nas")
    assert AlertRows(database, delivers=False).owed_count() == 0  # what an earlier release kept counts no more
    before = watch.rows.owed_count()
    watch.rows = AlertRows(database, delivers=False)
    watch.alerts = watch.engine()
    assert watch.see("used_percent", 1.0, store="nas") == [("resolved", "capacity")]
    assert AlertRows(database).owed_count() == before > 0
