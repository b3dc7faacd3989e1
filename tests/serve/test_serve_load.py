"""`mmid serve` under load: every request is answered, or refused in a line, and nothing stays."""

from __future__ import annotations

import time

from servers import running
from storms import storm

from mmid.serve.app import make_app
from mmid.serve.uploads import Limits


def test_a_crowd_some_of_it_hostile_is_served(library, sent):
    limits = Limits()
    with running(make_app(library, limits=limits)) as address:
        ends = storm(address, sent, clients=8, requests=28)
        for _ in range(1_000):
            if limits.used == 0:
                break
            time.sleep(0.05)
    assert sum(ends.values()) == 28
    assert {end.split()[0] for end in ends} == {"answered", "refused", "left", "babbled"}
    assert ends["answered"] == 21 and limits.used == 0
    assert not any(end.startswith("refused 5") for end in ends)


def test_a_crowd_beyond_what_may_wait_is_refused_in_a_line(library, sent, monkeypatch):
    monkeypatch.setattr("mmid.serve.desk.MOST_WAITING", 2)
    limits = Limits()
    app = make_app(library, limits=limits)
    with running(app) as address:
        ends = storm(address, sent, clients=12, requests=36)
    assert sum(ends.values()) == 36 and ends["answered"] > 0 and ends["refused 503"] > 0
    assert {end.split()[0] for end in ends} <= {"answered", "refused", "left", "babbled"}
