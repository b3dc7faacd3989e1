"""The baselines, what they are made of, and how mmid is compared with them."""

import importlib.util
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError
from mmid.evaluation.baselines import basic_pitch, chroma, methods, note_fingerprints
from mmid.evaluation.baselines.basic_pitch import BasicPitch, decode_notes, find_weights
from mmid.evaluation.baselines.chroma import ChromaLibrary, recording_chroma, score_chroma
from mmid.evaluation.baselines.methods import Majority, open_baselines
from mmid.evaluation.baselines.note_fingerprints import FingerprintIndex
from mmid.evaluation.intervals import mean_interval
from mmid.evaluation.pieces import evaluate_pieces
from mmid.evaluation.scores import calibrate, clip_table, recording_table
from mmid.evaluation.sources import RecordedSource, ScoreSource
from mmid.identify.identifier import Identifier
from mmid.index.build import build_index
from mmid.index.fingerprints import find_triples
from mmid.index.folder import LibraryIndex
from mmid.music.grid import DEFAULT
from mmid.music.notes import NOTE_DTYPE

RATE = DEFAULT.sample_rate


def moved(notes: np.ndarray, speed: float = 1.0, transpose: int = 0) -> np.ndarray:
    """Return notes played faster, and higher."""
    other = notes.copy()
    other["onset"] /= speed
    other["offset"] /= speed
    other["pitch"] += transpose
    return other


@pytest.fixture(scope="module")
def library(draw_notes):
    return [draw_notes(seed, 200, 60.0) for seed in range(12)]


class TestBootstrap:
    def test_more_pieces_tell_more_and_more_clips_of_them_do_not(self):
        def width(values, pieces):
            low, high = mean_interval(values, pieces)
            return high - low

        few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 160
        assert width(many, range(320)) < width(few, range(20)) / 3
        assert width(few * 16, list(range(20)) * 16) == pytest.approx(width(few, range(20)))

    def test_a_piece_weighs_as_much_as_it_has_clips(self):
        low, high = mean_interval([1.0, 1.0, 1.0, 0.0], ["a", "a", "a", "b"])
        assert (low, high) == (0.0, 1.0)

    def test_the_seed_alone_decides(self):
        values = list(np.random.default_rng(0).random(30))
        assert mean_interval(values, range(30)) == mean_interval(values, range(30))
        assert mean_interval(values, range(30)) != mean_interval(values, range(30), seed=1)

    def test_the_interval_covers_the_truth_as_often_as_it_says(self):
        rng = np.random.default_rng(0)
        samples = rng.normal(size=(200, 40))
        found = [mean_interval(sample, range(40), draws=300) for sample in samples]
        assert 0.9 <= np.mean([low <= 0 <= high for low, high in found]) <= 0.98

    def test_nothing_has_no_interval(self):
        assert mean_interval([], []) is None


class TestNotes:
    """Posteriorgrams to notes."""

    times = np.arange(120) / 100

    def grams(self, *played, loud=0.8):
        sounding, beginning = np.zeros((2, 120, 88), np.float32)
        for first, last, key in played:
            sounding[first:last, key] = loud
            beginning[first, key] = 0.9
        return sounding, beginning

    def decode(self, sounding, beginning):
        notes = decode_notes(sounding, beginning, self.times)
        return [(round(float(n["onset"]) * 100), n["offset"], n["pitch"]) for n in notes]

    def test_a_note_lasts_from_its_onset_while_it_sounds(self):
        first, second = self.decode(*self.grams((10, 40, 39), (30, 60, 46)))
        assert first == (10, pytest.approx(0.40), 60)
        assert second == (30, pytest.approx(0.60), 67)

    def test_the_velocity_is_the_mean_activation(self):
        (note,) = decode_notes(*self.grams((10, 40, 39), loud=0.5), self.times)
        assert note["velocity"] == 64

    def test_short_notes_are_left_out(self):
        assert self.decode(*self.grams((10, 21, 39))) == []
        assert len(self.decode(*self.grams((10, 22, 39)))) == 1

    def test_short_gaps_are_bridged_and_long_ones_end_a_note(self):
        for gap, notes in ((8, 1), (14, 2)):
            sounding, beginning = self.grams((10, 40, 39))
            swell = np.minimum(np.arange(0.35, 2, 0.05), 0.8)  # not a rise that begins a note
            sounding[40 + gap : 73, 39] = swell[: 33 - gap]
            assert len(self.decode(sounding, beginning)) == notes

    def test_a_note_struck_again_begins_again(self):
        found = self.decode(*self.grams((10, 60, 39), (35, 60, 39)))
        assert [onset for onset, _, _ in found] == [10, 35]

    def test_a_note_takes_its_neighbours_energy(self):
        sounding, beginning = self.grams((10, 60, 39))
        sounding[12:50, 40] = 0.35
        assert [pitch for _, _, pitch in self.decode(sounding, beginning)] == [60]

    def test_sound_without_an_onset_makes_a_note_too(self):
        sounding, beginning = self.grams()
        sounding[30:70, 50] = 0.4 + 0.3 * np.hanning(40)
        ((onset, offset, pitch),) = self.decode(sounding, beginning)
        assert 29 <= onset <= 32 and 0.66 <= offset <= 0.7 and pitch == 71

    def test_silence_has_no_notes(self):
        assert self.decode(*self.grams()) == []

    def test_the_last_frame_and_key_are_within_bounds(self):
        sounding, beginning = np.ones((2, 120, 88), np.float32)
        assert all(n["offset"] <= 1.2 for n in decode_notes(sounding, beginning, self.times))


class TestTriples:
    def test_every_note_goes_on_with_five_and_each_of_these_with_five(self):
        triples = find_triples(np.arange(40) / 4, np.full(40, 60, np.uint8))
        assert np.bincount(triples.note)[:20].tolist() == [25] * 20
        assert triples.span.min() == 0.5 and triples.span.max() == 2.5

    def test_notes_of_a_chord_do_not_follow_one_another(self):
        onset = np.repeat([0.0, 1.0, 2.0], 3) + np.tile([0.0, 0.01, 0.02], 3)
        triples = find_triples(onset, np.arange(9, dtype=np.uint8))
        assert len(triples) == 27 and triples.span.min() > 1.9

    def test_long_gaps_part_the_music(self):
        assert not len(find_triples(np.array([0.0, 1.0, 10.0]), np.zeros(3, np.uint8)))

    def test_fingerprints_hold_the_pitches_and_no_tempo(self, library):
        notes = library[0]
        played = (notes, moved(notes, 0.5), moved(notes, transpose=1))
        same, slower, higher = (
            find_triples(np.arange(200) * slow, n["pitch"])
            for slow, n in zip((0.5, 1.0, 0.5), played, strict=True)
        )
        assert (same.fingerprint == slower.fingerprint).all()
        assert not np.isin(higher.fingerprint[:50], same.fingerprint).any()

    def test_few_notes_have_none(self):
        for count in (0, 1, 2):
            notes = np.zeros(count, NOTE_DTYPE)
            assert not len(find_triples(notes["onset"].astype(float), notes["pitch"]))


class TestFingerprintIndex:
    @pytest.mark.parametrize("speed", [0.3, 1.0, 3.3])
    def test_a_rough_transcription_names_the_piece_at_any_speed(self, library, speed):
        index, rng = FingerprintIndex(library), np.random.default_rng(0)
        for number, notes in enumerate(library):
            heard = notes[(notes["onset"] > 20) & (notes["onset"] < 35)]
            heard = moved(heard[rng.random(len(heard)) < 0.8], speed)
            heard["onset"] += rng.normal(0, 0.005, len(heard))
            wrong = moved(library[number - 1][:8], speed)
            heard = np.sort(np.concatenate([heard, wrong]), order="onset")
            scores = index.search(heard)
            assert scores.argmax() == number
            assert scores[number] > 1.5 * np.sort(scores)[-2]

    def test_speeds_out_of_range_are_not_found(self, library):
        index = FingerprintIndex(library)
        assert index.search(library[3][:60])[3] > 0.9
        assert index.search(moved(library[3][:60], 0.15)).max() < 0.1

    def test_shards_change_nothing(self, library, monkeypatch):
        whole, query = FingerprintIndex(library), moved(library[5][50:100], 1.1)
        monkeypatch.setattr(note_fingerprints, "SHARD", 450)
        parts = FingerprintIndex(library)
        assert len(parts._shards) > 3
        np.testing.assert_array_equal(parts.search(query), whole.search(query))

    def test_long_queries_are_thinned(self, library, monkeypatch):
        monkeypatch.setattr(note_fingerprints, "MOST_TRIPLES", 500)
        scores = FingerprintIndex(library).search(library[7])
        assert scores.argmax() == 7 and scores[7] > 0.8

    def test_no_notes_speak_for_no_piece(self, library):
        assert FingerprintIndex(library).search(library[0][:0]).tolist() == [0.0] * 12


class TestChroma:
    def test_a_chord_is_its_pitch_classes(self):
        notes = np.zeros(4, NOTE_DTYPE)
        notes["pitch"], notes["offset"] = (48, 64, 67, 72), 2.0
        found = score_chroma(notes)
        assert found.shape == (12, 11) and found.dtype == np.float32
        expected = np.zeros(12)
        expected[[0, 4, 7]] = 2, 1, 1
        np.testing.assert_allclose(found[:, 0], expected / np.sqrt(6), atol=1e-6)

    def test_frames_are_of_unit_length_or_silent(self, library):
        found = score_chroma(library[0][::4])
        length = np.linalg.norm(found, axis=0)
        assert (np.isclose(length, 1, atol=1e-5) | (length == 0)).all()
        assert (length == 0).any()

    def test_a_score_and_its_sound_look_alike(self, library, play):
        pytest.importorskip("librosa", reason="chroma of recordings needs the extra baselines")
        heard, written = recording_chroma(play(library[0])), score_chroma(library[0])
        frames = min(heard.shape[1], written.shape[1])
        assert abs(heard.shape[1] - written.shape[1]) <= 1
        right = (heard[:, :frames] * written[:, :frames]).sum(0).mean()
        assert right > 0.6 > 0.2 + (heard[:, 20:frames] * written[:, : frames - 20]).sum(0).mean()

    def test_a_stretch_is_found_in_its_piece_at_another_speed(self, library):
        pytest.importorskip("librosa", reason="DTW needs the extra baselines")
        pieces = ChromaLibrary(library)
        span = library[4][(library[4]["onset"] > 20) & (library[4]["onset"] < 30)]
        span["onset"] -= 20
        span["offset"] -= 20
        for speed in (0.7, 1.4):
            costs = pieces.search(score_chroma(moved(span, speed)))
            assert costs.argmin() == 4 and costs[4] < np.sort(costs)[1] - 0.05

    def test_batches_change_nothing(self, library, monkeypatch):
        pytest.importorskip("librosa", reason="DTW needs the extra baselines")
        query = score_chroma(library[2][:40])
        whole = ChromaLibrary(library).search(query)
        monkeypatch.setattr(chroma, "CELLS", 1)
        np.testing.assert_allclose(ChromaLibrary(library).search(query), whole, atol=1e-6)

    def test_a_piece_too_short_for_the_query_costs_all(self, library):
        pytest.importorskip("librosa", reason="DTW needs the extra baselines")
        costs = ChromaLibrary([library[0], library[1][:2], library[1]]).search(
            score_chroma(library[1])
        )
        assert costs[1] == 1 and costs.argmin() == 2

    def test_of_long_recordings_the_middle_is_compared(self, library, monkeypatch):
        pytest.importorskip("librosa", reason="DTW needs the extra baselines")
        query = score_chroma(library[2])
        monkeypatch.setattr(chroma, "MOST_FRAMES", 40)
        first = (query.shape[1] - 40) // 2
        pieces = ChromaLibrary(library[:3])
        np.testing.assert_array_equal(
            pieces.search(query), pieces.search(query[:, first : first + 40])
        )


class TestTranscriber:
    def test_a_scale_is_heard(self, play):
        pytest.importorskip("onnxruntime", reason="the network needs the extra baselines")
        if importlib.util.find_spec("basic_pitch") is None:
            pytest.skip("the network's weights come with basic-pitch")
        notes = np.zeros(8, NOTE_DTYPE)
        notes["pitch"] = (60, 62, 64, 65, 67, 69, 71, 72)
        notes["onset"] = 0.3 + np.arange(8) * 0.5
        notes["offset"] = notes["onset"] + 0.45
        heard = BasicPitch().transcribe(play(notes))
        for note in notes:
            near = heard[np.abs(heard["onset"] - note["onset"]) < 0.06]
            assert note["pitch"] in near["pitch"]
        assert len(heard) < 16
        assert "basic_pitch" not in sys.modules, "it would import TensorFlow"

    def test_the_package_that_is_missing_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(MmidError, match=r"onnxruntime .* pip install 'mmid\[baselines\]'"):
            BasicPitch()
        monkeypatch.setattr(basic_pitch.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(MmidError, match="pip install --no-deps basic-pitch"):
            find_weights()
        monkeypatch.setitem(sys.modules, "librosa", None)
        with pytest.raises(MmidError, match=r"pip install 'mmid\[baselines\]'"):
            ChromaLibrary([])


@pytest.fixture(scope="module")
def opened(tmp_path_factory, tiny_model, draw_notes):
    from mmid.music.library import read_library
    from mmid.music.midi import write_midi

    folder = tmp_path_factory.mktemp("pieces")
    for seed in range(6):
        write_midi(draw_notes(seed), folder / f"piece {seed}.mid")
    pieces = read_library([folder], jobs=1)[0]
    build_index(folder / "index", pieces, tiny_model)
    return pieces, LibraryIndex(folder / "index", tiny_model)


@pytest.fixture
def sources(opened, play):
    return [
        RecordedSource(piece.name, frozenset([piece.digest]), play(piece.midi.notes))
        for piece in opened[0][:3]
    ]


class Oracle:
    """Knows every clip, and nothing once the right piece is gone."""

    name = "chroma"

    def __init__(self, right):
        self.right, self.heard = right, []

    def rank(self, samples, without=frozenset()):
        self.heard.append(samples)
        found = next(i for i, whole in enumerate(self.right) if is_part(samples, whole))
        return [] if found in without else [(found, 0.9), (found + 1, 0.2)]


def is_part(samples, whole):
    return samples.tobytes() in whole.tobytes()


class TestComparison:
    def test_a_baseline_hears_the_same_clips(self, opened, sources, tiny_model):
        index = opened[1]
        digests = [entry.digest for entry in index.entries]
        oracle = Oracle([source.samples for source in sources])
        identifier = Identifier(tiny_model, index)
        scores = evaluate_pieces(
            sources, identifier, digests, lengths=[3.0, 5.0], absent=True, baselines=[oracle]
        )
        assert [(row.system, row.seconds) for row in scores] == [
            ("mmid", 3.0),
            ("mmid", 5.0),
            ("chroma", 3.0),
            ("chroma", 5.0),
        ]
        ours, theirs = scores[0], scores[2]
        positions = [[(c.source, c.start, c.piece) for c in row.results] for row in (ours, theirs)]
        assert positions[0] == positions[1] and len(oracle.heard) == 2 * 2 * 9
        assert {len(heard) for heard in oracle.heard} == {3 * RATE, 5 * RATE}
        assert theirs.top1 == theirs.mrr == theirs.auroc == 1.0
        assert theirs.top1_interval == (1.0, 1.0) and theirs.falsely_matched is None
        assert theirs.lead == ours.top1 - 1 and ours.lead is None
        assert theirs.lead_interval[0] <= theirs.lead <= theirs.lead_interval[1] <= 0
        assert ours.top1_interval[0] <= ours.top1 <= ours.top1_interval[1]
        alone = evaluate_pieces(sources, identifier, digests, lengths=[3.0, 5.0], absent=True)
        assert alone == scores[:2], "baselines change nothing"

        rows = [row.to_dict() for row in scores]
        assert calibrate(rows) == calibrate(rows[:2]), "of mmid's confidence only"
        table = clip_table(scores)
        assert list(table.columns[0].cells) == ["mmid", "mmid", "chroma", "chroma"]
        assert table.columns[-2].header == "mmid ahead"
        assert clip_table(scores[:2]).columns[0].header == "clip"
        assert len(recording_table(scores).columns) == 3

    def test_clips_of_one_piece_share_it(self, opened, sources, tiny_model):
        right = sources[0].right | sources[1].right
        both = [RecordedSource(s.name, right, s.samples) for s in sources[:2]]
        (scores,) = evaluate_pieces(
            both, Identifier(tiny_model, opened[1]), [], lengths=[3.0], clips=1
        )
        assert len({clip.piece for clip in scores.results}) == 1

    def test_a_score_makes_no_sound(self, opened):
        source = ScoreSource("a.mid", frozenset(), opened[0][0].midi)
        with pytest.raises(MmidError, match=r"a\.mid: a score makes no sound"):
            source.sound(0, 100)


class TestBaselines:
    def test_majority_shares_its_votes_among_pieces(self, opened, sources, tiny_model):
        majority = Majority(tiny_model, opened[1])
        ranking = majority.rank(sources[0].samples)
        shares = [share for _, share in ranking]
        assert shares == sorted(shares, reverse=True) and sum(shares) == pytest.approx(1)
        best = ranking[0][0]
        left = majority.rank(sources[0].samples, frozenset([best]))
        assert best not in [piece for piece, _ in left]
        assert sum(share for _, share in left) <= 1 + 1e-9

    def test_a_clip_is_searched_for_once(self, monkeypatch):
        class Listener(methods._Listener):
            asked = 0

            def score(self, samples):
                self.asked += 1
                return np.array([0.2, 0.9, 0.0, 0.5])

        listener = Listener()
        assert listener.rank(np.ones(3)) == [(1, 0.9), (3, 0.5), (0, 0.2)]
        assert listener.rank(np.ones(3), frozenset([1])) == [(3, 0.5), (0, 0.2)]
        assert listener.asked == 1
        listener.rank(np.zeros(3))
        assert listener.asked == 2

    def test_they_name_what_they_hear(self, opened, sources, tiny_model):
        pytest.importorskip("librosa", reason="the chroma baseline needs the extra baselines")
        pytest.importorskip("onnxruntime", reason="the fingerprints need the extra baselines")
        if importlib.util.find_spec("basic_pitch") is None:
            pytest.skip("the fingerprints need basic-pitch")
        names = ["chroma", "fingerprints", "majority", "chroma"]
        made = open_baselines(names, tiny_model, opened[1])
        assert [baseline.name for baseline in made] == names[:3], "each once"
        entries = [entry.digest for entry in opened[1].entries]
        for source in sources:
            right = entries.index(next(iter(source.right)))
            for baseline in made[:2]:
                found = baseline.rank(source.samples[2 * RATE : 12 * RATE])
                assert found[0][0] == right

    def test_none_need_nothing(self, opened, tiny_model):
        assert open_baselines([], tiny_model, opened[1]) == []

    def test_an_index_of_recordings_is_refused(self, opened, tiny_model, monkeypatch):
        monkeypatch.setattr(opened[1], "kind", "recordings")
        with pytest.raises(MmidError, match="they need an index of MIDI files"):
            open_baselines(["majority"], tiny_model, opened[1])

    def test_an_unknown_name_is_refused(self):
        result = CliRunner().invoke(app, ["eval", "pieces", "x", "--baseline", "luck"])
        assert result.exit_code == 2
        told = " ".join(result.output.replace("│", " ").split())
        assert "'luck' is not one of majority, chroma, fingerprints." in told
