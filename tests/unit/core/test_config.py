"""Settings: where they come from, and what a wrong one says."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from fabric.core.config import (
    Settings,
    StoreSettings,
    load_settings,
    parse_store_argument,
    store_address,
    with_environment,
)
from fabric.core.errors import ConfigError
from fabric.core.words import Classification, Mode, Zone
from fabric.demos.world import sample_settings


def file_with(folder: Path, text: str) -> Path:
    path = folder / "fabric.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    settings = load_settings(None, {})
    assert settings.thresholds.cost_usd_month == 100
    assert settings.thresholds.latency_ms == 500
    assert settings.thresholds.capacity_percent == 85


def test_the_environment_wins_over_the_file_and_the_file_over_the_default(tmp_path) -> None:
    path = file_with(tmp_path, "[thresholds]\ncost_usd_month = 7\nlatency_ms = 50\n")
    settings = load_settings(path, {"COST_THRESHOLD": "9", "FABRIC_MIGRATION__WORKERS": "6"})
    assert settings.thresholds.cost_usd_month == 9
    assert settings.thresholds.latency_ms == 50
    assert settings.migration.workers == 6


@pytest.mark.item(127, 128, 129)
@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("COST_THRESHOLD", "cost_usd_month"),
        ("LATENCY_THRESHOLD", "latency_ms"),
        ("CAPACITY_THRESHOLD", "capacity_percent"),
    ],
)
def test_each_threshold_of_the_specification_is_read_and_a_bad_one_is_refused(variable: str, field: str) -> None:
    assert getattr(load_settings(None, {variable: "42.5"}).thresholds, field) == 42.5
    with pytest.raises(ConfigError, match=variable):
        load_settings(None, {variable: "lots"})
    with pytest.raises(ConfigError, match=field):
        load_settings(None, {variable: "-1"})


def test_the_environment_is_laid_over_settings_that_came_from_no_file(tmp_path) -> None:
    base = sample_settings(tmp_path)
    changed = with_environment(base, {"COST_THRESHOLD": "9", "FABRIC_DASHBOARD__PORT_FIRST": "5003"})
    assert (changed.thresholds.cost_usd_month, changed.dashboard.port_first) == (9, 5003)
    assert (changed.stores, changed.policies, changed.migration) == (base.stores, base.policies, base.migration)
    with pytest.raises(ConfigError, match="port_first"):
        with_environment(base, {"FABRIC_DASHBOARD__PORT_FIRST": "6000"})


@pytest.mark.item(126)
def test_flask_env_is_an_alias_with_a_warning(caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert load_settings(None, {"FLASK_ENV": "production"}).environment == "production"
    assert "FABRIC_ENV" in caplog.text


def test_a_misspelt_setting_stops_the_start_and_the_right_word_is_suggested(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"latency_msec.*did you mean latency_ms"):
        load_settings(file_with(tmp_path, "[thresholds]\nlatency_msec = 3\n"), {})


@pytest.mark.parametrize(
    "text",
    [
        "[thresholds]\ncapacity_percent = 140\n",
        "[migration]\nworkers = 0\n",
        "[dashboard]\nport_first = 70000\n",
        "[stores.a]\nurl = '/x'\nmode = 'fly'\n",
        "[stores.a]\nurl = '/x'\nkind = 'managed'\n",
        "environment = 'test'\n",
        "[security]\ntls_cert = 'a.pem'\n",
        "x = \n",
        "[dashboard]\nport_first = 6000\nport_last = 5000\n",
    ],
)
def test_an_impossible_value_is_refused_with_its_file(tmp_path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"fabric\.toml"):
        load_settings(file_with(tmp_path, text), {})


def test_a_settings_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="--config"):
        load_settings(tmp_path / "none.toml", {})


def test_the_longest_prefix_gives_the_policy_and_no_prefix_gives_the_default(tmp_path) -> None:
    settings = load_settings(
        file_with(
            tmp_path,
            """
        [[policies]]
        prefix = "hr/"
        classification = "restricted"
        [[policies]]
        prefix = "hr/public/"
        classification = "public"
    """,
        ),
        {},
    )
    assert settings.policy_for("hr/a").classification is Classification.RESTRICTED
    assert settings.policy_for("hr/public/a").classification is Classification.PUBLIC
    assert settings.policy_for("else").classification is Classification.PRIVATE


def test_a_store_argument_becomes_a_store_in_look_mode() -> None:
    name, store = parse_store_argument("nas=/srv/data")
    assert (name, store.url, store.mode) == ("nas", "/srv/data", Mode.LOOK)
    with pytest.raises(ConfigError, match="NAME=URL"):
        parse_store_argument("/srv/data")


def test_a_stores_url_gives_its_zone_sheet_and_classes() -> None:
    def address(url: str, **rest: object):
        return store_address("x", StoreSettings(url=url, **rest))

    assert address("/srv/data").zone is Zone.ON_PREMISE
    assert address("/srv/data").provider == "onprem"
    near = address("s3://box/some/prefix?endpoint=http://127.0.0.1:9000")
    assert (near.zone, near.bucket, near.path, near.provider) == (Zone.PRIVATE_CLOUD, "box", "some/prefix", "private")
    far = address("s3://box?region=eu-west-1&class=standard,standard_ia")
    assert (far.zone, far.region, far.classes) == (Zone.AWS, "eu-west-1", ("standard", "standard_ia"))
    assert address("az://account/box/p").bucket == "account/box"
    assert address("gs://box").zone is Zone.GCP
    for wrong in ("ftp://x", "s3://b?colour=red", "/srv?zone=moon"):
        with pytest.raises(ConfigError):
            address(wrong)


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().prices = "x"
