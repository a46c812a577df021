"""Twenty faults in the way of a move, at its source and at its target: it ends well, or goes back and says why."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from fault_runs import Runs, quickly, running
from faults import FAILED, FAULTS, ROLLED_BACK, Fault

SMALL_KIB = 96
MOVED = ("local-local", "whole")
SEEN_ON_THE_WIRE = ("500", "breaks off", "412", "lost", "flipped", "credentials")
ON_THE_WIRE = [
    fault for fault in FAULTS if fault.at == "target" and any(word in fault.name for word in SEEN_ON_THE_WIRE)
]


@pytest.fixture(scope="module")
def quick() -> Iterator[None]:
    with quickly():
        yield


@pytest.fixture(scope="module")
def runs(quick: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with running("moto", folder=tmp_path_factory.mktemp("faults")) as made:
        yield made


def test_there_are_twenty_faults_at_source_at_target_and_of_the_clock() -> None:
    assert len({fault.name for fault in FAULTS}) == 20
    assert {fault.at for fault in FAULTS} == {"source", "target", "clock"}


@pytest.mark.item(28)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_move_between_disks_survives_a_fault_or_goes_back_and_says_why(runs: Runs, fault: Fault) -> None:
    assert runs.run(fault, "local-local", "whole").wrong == ()


@pytest.mark.item(28)
@pytest.mark.server
@pytest.mark.parametrize("fault", ON_THE_WIRE, ids=lambda fault: fault.name)
def test_a_move_to_a_server_survives_a_fault_of_the_wire_or_goes_back_and_says_why(runs: Runs, fault: Fault) -> None:
    assert runs.run(fault, "local-s3", "whole").wrong == ()


@pytest.mark.item(28)
def test_a_disk_that_is_really_full_ends_a_move_and_leaves_nothing_on_it(runs: Runs) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    with runs.small_target(SMALL_KIB) as folder:
        outcome = runs.run(Fault("disk is full", "", "end", (ROLLED_BACK, FAILED), "the target has no room"), *MOVED)
        left = [path.name for path in (folder / "b").rglob("*") if path.is_file() and "objects" in path.parts]
    assert (outcome.wrong, left) == ((), [])
    assert outcome.states == (FAILED,)
