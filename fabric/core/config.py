"""Settings: defaults here, then ``fabric.toml``, then the environment; read once into a frozen `Settings`.

An unknown or impossible value stops the start with its path in the file. Secrets are references
(``env:NAME``, ``file:PATH``, ``keyring:SERVICE/USER``, ``rclone:REMOTE``), never values.
"""

from __future__ import annotations

import difflib
import logging
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, urlsplit

import msgspec
from msgspec import Meta

from fabric.core.errors import ConfigError
from fabric.core.hours import bandwidth_hours
from fabric.core.words import Classification, Criticality, LatencyClass, Merge, Mode, ObjectPolicy, Zone

logger = logging.getLogger(__name__)

Positive = Annotated[float, Meta(gt=0)]
Percent = Annotated[float, Meta(gt=0, le=100)]
Unit = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1)]


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class StoreSettings(_Strict, frozen=True, forbid_unknown_fields=True):
    """One store. ``url`` may carry provider, region, zone, class and endpoint as a query."""

    url: str
    provider: str = ""  # onprem | private | aws | azure | gcp: the price sheet; "" from the zone
    region: str = ""
    zone: Zone | None = None
    classes: tuple[str, ...] = ()  # storage classes, hot one first; () means the provider's hot class
    mode: Mode = Mode.LOOK
    kind: str = "adopted"  # adopted | managed: whose keys lie under the prefix
    domain: str = ""  # failure domain; "" means the region, or the store's own name
    capacity_bytes: Annotated[int, Meta(gt=0)] | None = None
    endpoint: str = ""
    profile: str = ""
    credentials: str = ""  # secret reference to "ACCESS_KEY:SECRET_KEY", or to what the provider gives
    delete_credentials: str = ""
    addressing: str = "auto"  # auto | path | virtual (S3)
    links: Literal["", "ok"] = ""  # ok: an adopted folder's files may be moved and leave a symbolic link behind
    client_path: str = ""  # the folder as a client sees it, for the probe of links; "" means as this machine does
    remove_source: bool = False  # an adopted object copied to another store is removed here after the grace period


class PolicySettings(_Strict, frozen=True, forbid_unknown_fields=True):
    """What objects under a prefix are; the longest matching prefix wins."""

    prefix: str
    classification: Classification = Classification.PRIVATE
    criticality: Criticality = Criticality.NORMAL
    latency: LatencyClass = LatencyClass.STANDARD
    regions: tuple[str, ...] = ()
    merge: Merge = Merge.LAST_WRITE_WINS

    def policy(self) -> ObjectPolicy:
        return ObjectPolicy(self.classification, self.criticality, self.latency, self.regions, self.merge)


class Thresholds(_Strict, frozen=True, forbid_unknown_fields=True):
    """Where alerts fire."""

    cost_usd_month: Positive = 100.0
    latency_ms: Positive = 500.0
    capacity_percent: Percent = 85.0
    throughput_drop_percent: Percent = 30.0
    buffer_percent: Percent = 80.0


class PlacementSettings(_Strict, frozen=True, forbid_unknown_fields=True):
    score_gate: Unit = 0.75
    confidence_gate: Unit = 0.7
    factor_floor: Unit = 0.3
    horizon_days: Positive = 90.0
    half_life_hours: Positive = 24.0
    idle_seconds: Positive = 30.0
    copies: Annotated[int, Meta(ge=1, le=9)] = 3
    coverage_floor: Unit = 0.95  # share of fed accesses that must have come before a plan is made
    scanners: tuple[str, ...] = ()  # requesters whose reads the rules learn nothing from: backups, virus scans
    rule: Literal["score", "fabric_gated", "fabric"] = (
        "fabric_gated"  # inside a store: the score, or the ledger's two rules
    )


class MigrationSettings(_Strict, frozen=True, forbid_unknown_fields=True):
    workers: Annotated[int, Meta(ge=1, le=64)] = 4
    store_jobs_most: Annotated[int, Meta(ge=1, le=64)] = 8  # at once at one store; fewer while it answers badly
    part_bytes: Annotated[int, Meta(ge=5 * 1024 * 1024)] = 8 * 1024 * 1024
    one_request_bytes: Annotated[int, Meta(ge=0, le=5 << 30)] = 64 * 1024 * 1024  # up to this a blob goes to S3 whole
    pause_limit_seconds: Positive = 240.0
    probe_seconds: Positive = 1.0
    grace_days_between_stores: Annotated[float, Meta(ge=0)] = 7.0
    grace_days_inside_store: Annotated[float, Meta(ge=0)] = 1.0
    off_peak_hours: tuple[int, int] = (22, 6)  # local to UTC; medium-risk jobs start inside
    bandwidth_bytes_per_second: Annotated[int, Meta(gt=0)] | None = None
    bandwidth_timetable: tuple[str, ...] = ()  # "08:00-18:00 10MiB", UTC, "off": no limit; the first that holds counts
    quiet_seconds: Annotated[float, Meta(ge=0)] = 300.0  # an adopted file written since is left alone
    verify: Literal["cheapest", "read_back", "media"] = "cheapest"  # media: read back with the cached pages dropped
    spend_cap_usd: Annotated[float, Meta(ge=0)] = 100.0
    medium_risk_bytes: int = 1 << 30
    high_risk_bytes: int = 1 << 40
    auto_approve_low: bool = True  # False: low-risk jobs wait for an approval too
    automatic: bool = False  # carry out placement's moves at once; False: only plans applied by name


class StreamingSettings(_Strict, frozen=True, forbid_unknown_fields=True):
    fast_events_per_second: Positive = 1000.0
    medium_events_per_second: Positive = 100.0
    high_variance_ratio: Positive = 4.0  # to the stream's own long-run variance
    medium_variance_ratio: Positive = 2.0
    buffer_rows: Count = 500_000
    workers_most: Annotated[int, Meta(ge=1, le=64)] = max(1, os.cpu_count() or 1)
    sigma: Positive = 3.0
    segment_bytes: Count = 64 << 20
    keep_days: Positive = 400.0


class PredictionSettings(_Strict, frozen=True, forbid_unknown_fields=True):
    update_hours: Positive = 24.0
    increase: Positive = 0.5
    increase_confidence: Unit = 0.7
    decrease: Unit = 0.8
    decrease_confidence: Unit = 0.8
    trees: Count = 60


class ConsistencySettings(_Strict, frozen=True, forbid_unknown_fields=True):
    health_seconds: Positive = 5.0
    reprobe_seconds: Positive = 0.5
    suspect_failures: Count = 2
    strict_critical: bool = False
    near: str = ""  # the region of a store: reads go there first and are priced from there; "" by measured latency


class SecuritySettings(_Strict, frozen=True, forbid_unknown_fields=True):
    key_folders: tuple[str, ...] = ()  # where copies of the key table lie; () means two folders under data/
    root_key: str = ""  # secret reference; "" means a file made at first start
    tls_cert: str = ""
    tls_key: str = ""
    hosts: tuple[str, ...] = ()  # Host names accepted beside loopback
    alert_webhook: str = ""  # URL, or a secret reference to one, that every alert is posted to as JSON


class DashboardSettings(_Strict, frozen=True, forbid_unknown_fields=True):
    bind: str = "127.0.0.1"
    port_first: Annotated[int, Meta(ge=1, le=65535)] = 5001
    port_last: Annotated[int, Meta(ge=1, le=65535)] = 5010


class Settings(_Strict, frozen=True, forbid_unknown_fields=True):
    """Everything that can be set, frozen after the start."""

    stores: dict[str, StoreSettings] = {}
    policies: tuple[PolicySettings, ...] = ()
    default_policy: PolicySettings = PolicySettings(prefix="")
    prices: str = ""  # a price sheet file laid over the built-in one
    thresholds: Thresholds = Thresholds()
    placement: PlacementSettings = PlacementSettings()
    migration: MigrationSettings = MigrationSettings()
    streaming: StreamingSettings = StreamingSettings()
    prediction: PredictionSettings = PredictionSettings()
    consistency: ConsistencySettings = ConsistencySettings()
    security: SecuritySettings = SecuritySettings()
    dashboard: DashboardSettings = DashboardSettings()
    environment: str = "development"  # or production

    def policy_for(self, key: str) -> ObjectPolicy:
        """Return the policy of the longest prefix that ``key`` starts with, or the default."""
        matching = [entry for entry in self.policies if key.startswith(entry.prefix)]
        return max(matching, key=lambda entry: len(entry.prefix), default=self.default_policy).policy()


def load_settings(path: Path | None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Read defaults, then the file at ``path``, then ``environment``; ConfigError names what is wrong and where."""
    tree: dict[str, Any] = _read_toml(path) if path is not None else {}
    return _settled(tree, environment, str(path or "environment"))


def with_environment(settings: Settings, environment: Mapping[str, str] = os.environ) -> Settings:
    """Lay ``environment`` over settings that came from elsewhere; ConfigError as for `load_settings`."""
    return _settled(msgspec.to_builtins(settings), environment, "environment")


def _settled(tree: dict[str, Any], environment: Mapping[str, str], file: str) -> Settings:
    _apply_environment(tree, environment)
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"a setting is wrong: {error}", hint=_suggestion(str(error)), file=file) from error
    _check(settings, file)
    return settings


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            "there is no such settings file", hint="give an existing file to --config", file=str(path)
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the settings file cannot be read: {error}", file=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the settings file is not TOML: {error}", file=str(path)) from error


_THRESHOLD_NAMES = {
    "COST_THRESHOLD": "cost_usd_month",
    "LATENCY_THRESHOLD": "latency_ms",
    "CAPACITY_THRESHOLD": "capacity_percent",
}
_THRESHOLD_EXAMPLES = {"COST_THRESHOLD": 100, "LATENCY_THRESHOLD": 500, "CAPACITY_THRESHOLD": 85}


def _apply_environment(tree: dict[str, Any], environment: Mapping[str, str]) -> None:
    """Lay the specification's variables and FABRIC_SECTION__NAME over the file's tree."""
    for variable, name in _THRESHOLD_NAMES.items():
        if variable in environment:
            tree.setdefault("thresholds", {})[name] = _threshold(variable, environment[variable])
    if "FLASK_ENV" in environment:
        logger.warning("FLASK_ENV is read as FABRIC_ENV; please set that one")
        tree["environment"] = environment["FLASK_ENV"]
    if "FABRIC_ENV" in environment:
        tree["environment"] = environment["FABRIC_ENV"]
    for variable, text in environment.items():
        if variable.startswith("FABRIC_") and "__" in variable:
            section, _, name = variable.removeprefix("FABRIC_").lower().partition("__")
            tree.setdefault(section, {})[name] = text


def _threshold(variable: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        hint = f"write for example {variable}={_THRESHOLD_EXAMPLES[variable]}"
        raise ConfigError("a threshold is not a number", variable=variable, value=text, hint=hint)
    return value


def _check(settings: Settings, file: str) -> None:
    if settings.environment not in ("development", "production"):
        raise ConfigError("environment must be development or production", file=file, value=settings.environment)
    if settings.dashboard.port_first > settings.dashboard.port_last:
        raise ConfigError("dashboard.port_first lies above dashboard.port_last", file=file)
    for line in settings.migration.bandwidth_timetable:
        bandwidth_hours(line)
    if bool(settings.security.tls_cert) != bool(settings.security.tls_key):
        raise ConfigError("security.tls_cert and security.tls_key come together", file=file)
    for name, store in settings.stores.items():
        if not name or "/" in name:
            raise ConfigError("a store's name is not empty and has no slash", file=file, path=f"stores.{name}")
        if store.kind not in ("adopted", "managed"):
            raise ConfigError("kind must be adopted or managed", file=file, path=f"stores.{name}.kind")
        if store.kind == "managed" and not store.mode.may_write:
            raise ConfigError("a managed store needs mode copy or move", file=file, path=f"stores.{name}.mode")


def _suggestion(message: str) -> str:
    unknown = message.split("unknown field `")
    if len(unknown) < 2:
        return "correct it, or remove it for the default"
    names = {field for kind in _all_structs(Settings) for field in kind.__struct_fields__}
    close = difflib.get_close_matches(unknown[1].split("`")[0], sorted(names), n=1)
    return f"did you mean {close[0]}?" if close else "remove it; the README lists every setting"


def _all_structs(kind: type[msgspec.Struct]) -> set[type[msgspec.Struct]]:
    return {
        kind,
        StoreSettings,
        PolicySettings,
        Thresholds,
        PlacementSettings,
        MigrationSettings,
        StreamingSettings,
        PredictionSettings,
        ConsistencySettings,
        SecuritySettings,
        DashboardSettings,
    }


def parse_store_argument(text: str) -> tuple[str, StoreSettings]:
    """Read ``name=URL`` of ``--store``; ConfigError says how to write it."""
    name, equals, url = text.partition("=")
    if not equals or not name or not url:
        raise ConfigError("a store is written as NAME=URL", hint="for example --store nas=/srv/data", given=text)
    return name, StoreSettings(url=url)


def own_settings(path: Path | None, stores: Sequence[str]) -> Settings | None:
    """Return the settings of one's own world: a file and stores written NAME=URL; None when neither is given."""
    if path is None and not stores:
        return None
    settings = load_settings(path)
    named = dict(parse_store_argument(text) for text in stores)
    return msgspec.structs.replace(settings, stores={**settings.stores, **named})


class StoreAddress(msgspec.Struct, frozen=True):
    """A store's URL taken apart, with the defaults of DESIGN 4 filled in."""

    scheme: str  # file | memory | s3 | az | gs
    bucket: str  # bucket, or container, or account/container; "" for a path
    path: str  # absolute folder, or key prefix without leading slash
    provider: str
    region: str
    zone: Zone
    classes: tuple[str, ...]
    endpoint: str
    domain: str


_ZONE_OF = {"s3": Zone.AWS, "az": Zone.AZURE, "gs": Zone.GCP}
_PROVIDERS_HOSTS = {
    "s3": ("amazonaws.com", "amazonaws.com.cn"),
    "az": ("core.windows.net", "core.usgovcloudapi.net", "core.chinacloudapi.cn"),
    "gs": ("googleapis.com",),
}
_SHEET_OF = {
    Zone.ON_PREMISE: "onprem",
    Zone.PRIVATE_CLOUD: "private",
    Zone.AWS: "aws",
    Zone.AZURE: "azure",
    Zone.GCP: "gcp",
}
_HOT_CLASS = {"onprem": "hdd", "private": "hdd", "aws": "standard", "azure": "hot", "gcp": "standard"}
_QUERY_NAMES = frozenset({"provider", "region", "zone", "class", "endpoint"})


def store_address(name: str, store: StoreSettings) -> StoreAddress:
    """Take a store's URL apart; explicit settings win over the URL's query, the query over defaults."""
    parts = urlsplit(store.url)
    query = {field: values[-1] for field, values in parse_qs(parts.query).items()}
    if unknown := set(query) - _QUERY_NAMES:
        raise ConfigError(
            "the store's URL has an unknown option",
            store=name,
            option=sorted(unknown)[0],
            hint=f"known are {', '.join(sorted(_QUERY_NAMES))}",
        )
    scheme = parts.scheme or "file"
    if scheme not in ("file", "memory", "s3", "az", "azure", "gs"):
        raise ConfigError(
            "the store's URL has an unknown scheme",
            store=name,
            scheme=scheme,
            hint="write a path, s3://BUCKET, az://ACCOUNT/CONTAINER, azure://CONTAINER or gs://BUCKET",
        )
    is_path = scheme == "file"
    bucket, path = ("", parts.path) if is_path else _bucket_and_prefix(scheme, parts.netloc, parts.path)
    scheme = "az" if scheme == "azure" else scheme
    endpoint = store.endpoint or query.get("endpoint", "")
    zone = _zone(name, store, query, scheme, endpoint)
    provider = store.provider or query.get("provider", "") or _SHEET_OF[zone]
    region = store.region or query.get("region", "")
    classes = store.classes or tuple(filter(None, query.get("class", "").split(",")))
    return StoreAddress(
        scheme,
        bucket,
        os.path.abspath(os.path.expanduser(path)) if is_path else path,
        provider,
        region,
        zone,
        classes or (_HOT_CLASS.get(provider, "standard"),),
        endpoint,
        store.domain or region or name,
    )


def _zone(name: str, store: StoreSettings, query: Mapping[str, str], scheme: str, endpoint: str) -> Zone:
    if store.zone is not None:
        return store.zone
    if "zone" in query:
        try:
            return Zone(query["zone"])
        except ValueError:
            raise ConfigError(
                "the store's zone is unknown", store=name, zone=query["zone"], hint=f"known are {', '.join(Zone)}"
            ) from None
    if scheme in ("file", "memory"):
        return Zone.ON_PREMISE
    return _ZONE_OF[scheme] if not endpoint or _is_providers(scheme, endpoint) else Zone.PRIVATE_CLOUD


def _is_providers(scheme: str, endpoint: str) -> bool:
    """Tell whether an address is the provider's own: what lies there is in its cloud, however it was written."""
    host = urlsplit(endpoint).hostname or ""
    return any(host == known or host.endswith(f".{known}") for known in _PROVIDERS_HOSTS[scheme])


def _bucket_and_prefix(scheme: str, netloc: str, path: str) -> tuple[str, str]:
    """Return what holds the keys, and what they begin with: ``az`` names an account first where two names are given."""
    path = path.lstrip("/")
    if scheme != "az" or not path:
        return netloc, path
    container, _, prefix = path.partition("/")
    return f"{netloc}/{container}", prefix
