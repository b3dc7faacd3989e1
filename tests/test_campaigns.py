"""A few rounds of the long campaigns against the index."""

import pytest
from campaigns import damage, kills


@pytest.mark.parametrize(("campaign", "rounds"), [(kills, 4), (damage, 40)])
def test_no_round_of_a_campaign_ends_in_a_fault(tmp_path, campaign, rounds):
    seen = campaign(rounds, tmp_path, seed=1)
    assert sum(seen.values()) >= rounds
    assert not {what for what, count in seen.items() if what.startswith("fault") and count}
