"""`import mmid`: what a program may rely on."""

from __future__ import annotations

import doctest
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

import mmid
from mmid.cli.demo import prepare_demo

PAGE = Path(__file__).parents[1] / "docs" / "api.md"


@pytest.fixture
def index(tmp_path, midi_folder, tiny_model) -> mmid.Index:
    return mmid.Index.build(tmp_path / "index", midi_folder, tiny_model)


def test_the_page_lists_exactly_the_names_there_are():
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.M)
    assert sorted(rows) == sorted(mmid.__all__)
    assert set(mmid.__all__) <= set(dir(mmid))
    assert all(getattr(mmid, name) is not None for name in mmid.__all__)


def test_what_type_checkers_see_is_what_is_loaded():
    imports = re.findall(
        r"^    from (mmid\.[\w.]+) import (.*)$", Path(mmid.__file__).read_text(), re.M
    )
    seen = {name: home for home, names in imports for name in names.split(", ")}
    assert {*seen, "__version__"} == set(mmid.__all__)
    for name, home in seen.items():
        assert getattr(mmid, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("path", sorted(PAGE.parent.glob("*.md")), ids=lambda path: path.name)
def test_examples_in_the_documents_use_these_names_only(path):
    blocks = "\n".join(re.findall(r"^```py\w*\n(.*?)^```", path.read_text(), re.M | re.S))
    assert "from mmid" not in blocks
    assert set(re.findall(r"\bmmid\.(\w+)", blocks)) - {"errors"} <= set(mmid.__all__)


def test_no_other_name_is_made_up():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        mmid.nonsense  # noqa: B018


def test_the_pages_examples_run(tmp_path, monkeypatch):
    prepare_demo(tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 20 and not failed


def test_an_index_is_built_opened_and_counted(index, tmp_path, tiny_model):
    assert index.built.added == 6 and index.kind == "midi" and "6 midi" in repr(index)
    again = mmid.Index.open(tmp_path / "index", tiny_model)
    assert again.built is None and len(again) == 6
    assert again.pieces == index.pieces
    assert {piece.name for piece in again.pieces} >= {"piece 0.mid", "more/piece 5.mid"}
    assert next(iter(json.loads(json.dumps(again.pieces[0].to_dict())))) == "name"


def test_the_environment_names_index_and_model(index, make_model, tmp_path, monkeypatch):
    from mmid.model.checkpoint import save_checkpoint

    monkeypatch.setenv("MMID_INDEX", str(index.folder))
    monkeypatch.setenv("MMID_MODEL", str(tmp_path / "other.safetensors"))
    save_checkpoint(tmp_path / "other.safetensors", make_model(1).encoders, {})
    with pytest.raises(mmid.LibraryIndexError, match="built with another model"):
        mmid.Index.open()


def test_a_file_and_its_samples_are_answered_alike(index, recording):
    sound = mmid.read_audio(recording, 22_050)
    of_file, of_array = index.identify(recording), index.identify(sound, 22_050)
    assert of_file.query == str(recording) and of_array.query == ""
    assert [m.to_dict() for m in of_array.matches] == [m.to_dict() for m in of_file.matches]
    spans = [
        index.identify(x, sr, start=2, duration=3) for x, sr in ((recording, None), (sound, 22_050))
    ]
    assert spans[0].seconds == spans[1].seconds == pytest.approx(3, abs=0.1)
    assert spans[0].matches == spans[1].matches


def test_a_span_of_a_recording_is_read(recording, tmp_path):
    whole = mmid.read_audio(recording, 22_050)
    part = mmid.read_audio(recording, 22_050, start=2, duration=3)
    assert part.shape == (3 * 22_050,) and part.dtype == np.float32
    np.testing.assert_array_equal(part, whole[2 * 22_050 : 5 * 22_050])
    with pytest.raises(mmid.AudioError, match="No such file"):
        mmid.read_audio(tmp_path / "gone.wav", 22_050)


def test_arrays_of_other_rates_and_channels_are_brought_to_the_grid(index, recording):
    sound = mmid.read_audio(recording, 48_000)
    stereo = np.stack([2 * sound, 0 * sound]).astype(np.float64)
    answers = [index.identify(sound, 48_000), index.identify(stereo, 48_000.0)]
    assert answers[0].seconds == pytest.approx(8, abs=0.1)
    assert answers[0].matches[0].piece == answers[1].matches[0].piece
    assert answers[0].matches[0].votes == pytest.approx(answers[1].matches[0].votes, abs=0.02)


NOISE = np.random.default_rng(0).normal(0, 0.1, 22_050)


@pytest.mark.parametrize(
    ("sound", "rate", "said"),
    [
        (NOISE, None, "give its sample rate"),
        (NOISE, 0, "a sample rate of 0 Hz"),
        (NOISE, 22_050.5, "give a whole one"),
        (NOISE, float("nan"), "a sample rate of nan Hz"),
        (NOISE.astype(np.int16), 22_050, "an array of int16: give floating-point"),
        (NOISE * np.nan, 22_050, "not finite"),
        (NOISE[:0], 22_050, r"shape \(0,\)"),
        (NOISE.reshape(1, 1, -1), 22_050, "shape"),
        (NOISE.reshape(-1, 2), 22_050, "not .n, channels."),
    ],
)
def test_what_is_no_sound_is_refused(index, sound, rate, said):
    with pytest.raises(mmid.AudioError, match=said) as failure:
        index.identify(sound, rate)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start": 3}, "past the end"),
        ({"start": -1}, "give seconds"),
        ({"duration": 0}, "give seconds"),
        ({"top": 0}, "at least 1"),
        ({"min_confidence": 2}, "give 0 to 1"),
        ({"transpose": 25}, "from -24 to 24"),
        ({"transpose": "up"}, "from -24 to 24"),
    ],
)
def test_options_out_of_range_are_refused(index, options, said):
    with pytest.raises(mmid.MmidError, match=said):
        index.identify(NOISE, 22_050, **options)


def test_a_file_tells_its_own_rate(index, recording):
    with pytest.raises(mmid.MmidError, match="leave sr out"):
        index.identify(recording, 44_100)


def test_options_reach_the_answer(index, recording):
    answer = index.identify(recording, top=2, min_confidence=0)
    assert len(answer.matches) == 2 and answer.matched


def test_records_are_flat_rows(index, recording):
    answer = index.identify(recording, top=3, min_confidence=0)
    rows = answer.to_records()
    assert [row["rank"] for row in rows] == [1, 2, 3]
    assert [row["matched"] for row in rows] == [True, False, False]
    assert [row["piece"] for row in rows] == [match.piece for match in answer.matches]
    assert {row["query"] for row in rows} == {str(recording)}


@pytest.mark.skipif(not importlib.util.find_spec("pandas"), reason="needs pandas")
def test_records_make_a_data_frame(index, recording):
    import pandas

    answer = index.identify(recording, top=3)
    table = pandas.DataFrame(answer.to_records())
    assert (
        len(table) == 3
        and table.votes.dtype == float
        and table["piece"][0] == answer.matches[0].piece
    )


def test_music_is_embedded_with_its_times(recording, midi_folder, tiny_model):
    sound = mmid.read_audio(recording, 22_050)
    heard, array = (
        mmid.embed_audio(recording, model=tiny_model),
        mmid.embed_audio(sound, 22_050, tiny_model),
    )
    written = mmid.embed_midi(midi_folder / "piece 2.mid", tiny_model)
    for vectors, times in (heard, written):
        assert vectors.dtype == np.float32 and vectors.shape == (len(times), 16)
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=2e-3)
        assert (np.diff(times) > 0).all() and np.diff(times).min() == pytest.approx(
            4 * 1024 / 22_050
        )
    assert np.array_equal(heard.vectors, array.vectors) and np.array_equal(heard.times, array.times)
    assert heard.times[-1] < 8 < written.times[-1] < 21


def test_sound_and_scores_are_not_mixed_up(recording, midi_folder, tiny_model):
    with pytest.raises(mmid.AudioError, match="embed_midi"):
        mmid.embed_audio(midi_folder / "piece 2.mid", model=tiny_model)
    with pytest.raises(mmid.MidiError, match="embed_audio"):
        mmid.embed_midi(recording, tiny_model)


@pytest.mark.parametrize("key", [12, -12, 24, -24])
def test_another_octave_is_found(tmp_path, draw_notes, transcribing_model, key):
    from mmid.music.midi import write_midi

    (tmp_path / "library").mkdir()
    for seed in range(3):
        write_midi(draw_notes(seed), tmp_path / "library" / f"{seed}.mid")
    notes = draw_notes(1).copy()
    pitch = notes["pitch"].astype(int) + key
    kept = (pitch >= 21) & (pitch <= 108)
    notes["pitch"] = pitch.clip(0, 127)
    write_midi(notes[kept], tmp_path / "moved.mid")
    index = mmid.Index.build(tmp_path / "index", tmp_path / "library", transcribing_model)
    best = index.identify(tmp_path / "moved.mid", transpose=key).matches[0]
    assert (best.piece, best.transpose) == ("1.mid", key) and best.explained > 0.9
