from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabric.core.errors import ForbiddenError
from fabric.core.words import CLOUDS, Classification, Suite, Zone
from fabric.security.matrix import CIPHERS, allowed_zones, suite_for, suite_or_none

TABLE = """
confidential MILITARY refused refused
restricted STANDARD ENHANCED refused
sensitive STANDARD ENHANCED ENHANCED
private STANDARD STANDARD STANDARD
public NONE NONE NONE
"""  # DESIGN 5.6: on_premise, private_cloud, clouds


def expected() -> dict[tuple[str, str], str]:
    pairs = {}
    for line in TABLE.strip().splitlines():
        kind, on_premise, private, cloud = line.split()
        pairs |= {(kind, "on_premise"): on_premise, (kind, "private_cloud"): private}
        pairs |= {(kind, zone): cloud for zone in ("aws", "azure", "gcp")}
    return pairs


@pytest.mark.item(77, 78, 79, 80)
def test_every_class_and_zone_has_the_cipher_of_the_table_or_is_refused() -> None:
    pairs = expected()
    assert set(pairs) == {(str(kind), str(zone)) for kind in Classification for zone in Zone}
    for (kind, zone), name in pairs.items():
        if name == "refused":
            with pytest.raises(ForbiddenError):
                suite_for(kind, zone)
        else:
            assert suite_for(kind, zone) is Suite[name]


@pytest.mark.item(80)
@given(st.text(), st.text())
def test_a_class_or_zone_that_is_not_known_is_refused(kind: str, zone: str) -> None:
    if kind in set(Classification) and zone in set(Zone):
        return
    assert suite_or_none(kind, zone) is None
    with pytest.raises(ForbiddenError):
        suite_for(kind, zone)


@pytest.mark.item(79, 89)
def test_only_public_objects_are_ever_stored_plain() -> None:
    plain = {kind for kind in Classification for zone in Zone if suite_or_none(kind, zone) is Suite.NONE}
    assert plain == {Classification.PUBLIC}


@pytest.mark.item(80)
def test_confidential_stays_on_premise_and_restricted_out_of_every_cloud() -> None:
    assert allowed_zones("confidential") == (Zone.ON_PREMISE,)
    assert not CLOUDS & set(allowed_zones("restricted"))
    assert allowed_zones("secret") == ()
    assert set(CIPHERS) == set(Suite)
