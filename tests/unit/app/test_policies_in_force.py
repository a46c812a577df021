"""Going back to an earlier configuration: its policies hold for the next request."""

from __future__ import annotations

from pathlib import Path

import pytest

from fabric.app.client import InProcess, reach
from fabric.core.config import PolicySettings, Settings, StoreSettings
from fabric.core.words import Classification, Mode
from fabric.demos.sample import Sample


def settings(folder: Path, classification: Classification) -> Settings:
    stores = {"disk": StoreSettings(str(folder / "disk"), kind="managed", mode=Mode.MOVE)}
    return Settings(stores=stores, policies=(PolicySettings("hr/", classification),))


@pytest.mark.item(122)
def test_a_policy_that_was_put_back_counts_for_the_next_object_and_the_memory_is_measured(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for classification in (Classification.RESTRICTED, Classification.PUBLIC):
        with reach(tmp_path / "data", settings(tmp_path, classification), sample=Sample()) as engine:
            assert isinstance(engine, InProcess)
    with reach(tmp_path / "data", settings(tmp_path, Classification.PUBLIC), sample=Sample()) as engine:
        assert isinstance(engine, InProcess)
        client = engine.application.test_client()
        allowed = {"Authorization": f"Bearer {engine.token}"}
        assert client.put("/api/objects/hr/before", data=b"b", headers=allowed).status_code == 201
        assert client.post("/api/acts/config_rollback", json={"number": 1}, headers=allowed).status_code == 200
        assert client.put("/api/objects/hr/after", data=b"a", headers=allowed).status_code == 201
        found = {name: client.head(f"/api/objects/hr/{name}").headers["X-Fabric-Class"] for name in ("before", "after")}
        figures = client.get("/api/metrics").get_data(as_text=True)
    assert found == {"before": "public", "after": "restricted"}
    assert "policy_cache_hit_percent" in figures
