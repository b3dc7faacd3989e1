"""`mmid.research.query_times`: what is timed, and what its command writes."""

from __future__ import annotations

import json

import pytest
from typer import Typer
from typer.testing import CliRunner

from mmid.research import query_times
from mmid.research.query_times import _query


@pytest.fixture
def recordings(tmp_path, known_tunes, play, write_wav):
    """Return a folder with four seconds of two tunes, one of which no library holds."""
    rows = ["id,audio,midi"]
    for number, tune in enumerate(list(known_tunes.values())[:2]):
        write_wav(tmp_path / f"{number}.wav", play(tune.midi.notes, 4.0))
        rows.append(f"{number},{number}.wav,{tune.path}")
    other = tmp_path / "other.mid"
    other.write_bytes(next(iter(known_tunes.values())).path.read_bytes() + b"\0")
    rows.append(f"other,0.wav,{other}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    return tmp_path


def run(*words):
    single = Typer()
    single.command()(query_times.main)
    return CliRunner().invoke(single, [str(word) for word in words])


def test_queries_with_and_without_their_piece_are_timed(
    recordings, tunes_index, tmp_path, monkeypatch
):
    queried = []

    def query(identifier, audio, length, excluded=frozenset()):
        queried.append((audio.name, length, len(excluded)))
        return _query(identifier, audio, length, excluded)

    monkeypatch.setattr(query_times, "_query", query)
    out = tmp_path / "times.json"
    done = run(recordings, "--index", tunes_index, "--clips", "3", "--out", out)
    assert done.exit_code == 0, done.output
    assert queried[1:] == [(f"{n}.wav", 3.0, gone) for gone in (0, 1) for n in (0, 1)]
    rows = json.loads(out.read_text())
    assert [(row["seconds"], row["present"], row["clips"]) for row in rows] == [
        (3.0, True, 2),
        (3.0, False, 2),
    ]
    assert all(0 < row["median"] <= row["slow"] for row in rows)
    assert "taken out" in done.output


def test_scores_of_another_library_are_refused(recordings, tunes_index):
    lines = (recordings / "pairs.csv").read_text().splitlines()
    (recordings / "pairs.csv").write_text("\n".join([lines[0], lines[-1]]))
    done = run(recordings, "--index", tunes_index)
    assert done.exit_code == 1
    assert "mmid: none of the scores is in the index" in done.output
