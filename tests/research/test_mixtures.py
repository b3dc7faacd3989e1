"""`mmid.research.mixtures`: a folder of clips that can be measured."""

from __future__ import annotations

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth
from typer import Typer
from typer.testing import CliRunner

from mmid.cli.demo import write_library
from mmid.errors import MmidError
from mmid.evaluation.sources import open_sources
from mmid.music.grid import DEFAULT
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import NOTE_DTYPE
from mmid.music.pairs import read_pairs
from mmid.research import mixtures
from mmid.research.mixtures import write_mixtures


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tunes")
    write_library(folder)
    return folder


@needs_fluidsynth
def test_one_seed_writes_the_same_files_and_evaluation_takes_them(library, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        made = {"count": 2, "seconds": 4.0, "seed": seed, "soundfonts": [str(SOUNDFONT)]}
        assert write_mixtures([library], tmp_path / name, ["song", "folk"], **made) == 4
    one, again, other = (
        {
            str(p.relative_to(tmp_path / name)): p.read_bytes()
            for p in (tmp_path / name).rglob("*.*")
        }
        for name in "abc"
    )
    assert one == again and one != other
    pairs = read_pairs(tmp_path / "a")
    assert [pair.kind for pair in pairs] == ["song", "song", "folk", "folk"]
    for pair in pairs:
        original = library / f"{pair.score.path.stem.rpartition('-')[0]}.mid"
        assert pair.score.path.read_bytes() == original.read_bytes(), "the whole score"
        assert len(read_midi(tmp_path / "a" / "notes" / f"{pair.name}.mid").notes) > 3
    count, sources = open_sources(tmp_path / "a", None, DEFAULT, (1, 1), "all", 0)
    assert count == 4
    assert all(s.size(DEFAULT) == 4 * DEFAULT.sample_rate for s in sources)


@needs_fluidsynth
def test_a_file_that_is_of_no_use_is_left_out(library, tmp_path):
    folder = tmp_path / "some"
    folder.mkdir()
    (folder / "bad.mid").write_bytes(b"MThd nothing")
    write_midi(np.array([(0, 1, 60, 90, 0)], NOTE_DTYPE), folder / "short.mid")
    with pytest.raises(MmidError, match="no MIDI file has enough notes for a clip of piano"):
        write_mixtures([folder], tmp_path / "out", ["piano"], soundfonts=[str(SOUNDFONT)])
    assert not (tmp_path / "out" / "pairs.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--kind", "polka"], "mmid: no kind 'polka': there are piano, folk, choir"),
        (["--soundfont", "nosuch"], "mmid: no soundfont 'nosuch'"),
        (["--soundfont", str(SOUNDFONT)], "not empty; choose another --out"),
    ],
)
def test_bad_input_is_one_line(library, tmp_path, arguments, reason):
    (tmp_path / "mine.txt").write_text("keep")
    app = Typer(pretty_exceptions_enable=False)
    app.command()(mixtures.main)
    run = CliRunner().invoke(app, [str(library), "--out", str(tmp_path), *arguments])
    assert run.exit_code == 1 and reason in run.stderr and run.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
