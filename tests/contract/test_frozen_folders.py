"""Every release opens the data folders of the releases before it."""

from __future__ import annotations

import tarfile
from pathlib import Path

import frozen_folder as frozen
import pytest

from fabric.core.errors import NotFoundError
from fabric.security.audit import verify

ARCHIVES = sorted((Path(__file__).parent / "frozen").glob("*.tar.gz"))


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda path: path.name)
def test_a_frozen_data_folder_opens_with_every_byte_in_it(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    engine, data = frozen.open_engine(tmp_path, author="a later release")
    try:
        for key in frozen.object_keys():
            head = engine.objects.head(key, frozen.CALLER)
            assert head.current.metadata == {"made": "frozen"}
            reading = engine.objects.open(head, engine.objects.version(head), frozen.CALLER)
            found = b"".join(reading)
            reading.close()
            assert found == (b"" if key == "empty" else frozen.content(key))
        with pytest.raises(NotFoundError):
            engine.objects.head("gone", frozen.CALLER)
        assert [row.name for row in engine.tokens.all()] == ["reader"]
        assert engine.log.end >= frozen.ROWS
        while engine.history.catch_up(engine.log):
            pass
        row = engine.history.row("class/private")
        assert row is not None
        assert int(engine.history.record(row)["reads"]) >= frozen.ROWS // 5
        assert "frozen" in [entry.who for entry in engine.config_history.entries()]
        assert verify(data.path / "audit").ok
    finally:
        engine.stop()
        data.release()


def test_there_is_a_frozen_folder_of_this_format() -> None:
    assert ARCHIVES, "make one: python tests/contract/frozen_folder.py tests/contract/frozen/format-1.tar.gz"
