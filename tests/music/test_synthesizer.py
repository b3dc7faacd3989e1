"""Rendering with fluidsynth, where it is installed."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth

from mmid.errors import RenderError
from mmid.music.notes import NOTE_DTYPE
from mmid.music.synthesizer import RELEASE_SECONDS, Synthesizer, find_soundfont, pick_soundfonts


def notes(*rows):
    return np.array([(*row, 100, 0) for row in rows], NOTE_DTYPE)


@needs_fluidsynth
def test_sounds_the_pitch_at_its_time():
    with Synthesizer(SOUNDFONT, 22_050) as synthesizer:
        audio = synthesizer.render(notes((1.0, 2.0, 69)))
    assert len(audio) == int((2.0 + RELEASE_SECONDS) * 22_050)
    assert np.abs(audio[: int(0.98 * 22_050)]).max() < 1e-3
    sounding = audio[int(1.2 * 22_050) : int(1.9 * 22_050)]
    spectrum = np.abs(np.fft.rfft(sounding * np.hanning(len(sounding))))
    peak = spectrum[: len(spectrum) // 8].argmax() * 22_050 / len(sounding)
    assert peak % 440 == pytest.approx(0, abs=6) or peak % 440 == pytest.approx(440, abs=6)


@needs_fluidsynth
def test_rendering_again_leaves_nothing_of_the_first():
    phrase = notes((0.0, 0.4, 60), (0.5, 0.9, 64), (1.0, 1.5, 67))
    with Synthesizer(SOUNDFONT, 22_050) as synthesizer:
        first, second = synthesizer.render(phrase), synthesizer.render(phrase)
    loudness = [np.abs(np.fft.rfft(audio.reshape(-1, 1050))) for audio in (first, second)]
    assert np.corrcoef(loudness[0].ravel(), loudness[1].ravel())[0, 1] > 0.95


@needs_fluidsynth
def test_threads_take_turns():
    phrases = [notes((0.0, 0.5, pitch), (0.5, 1.0, pitch + 4)) for pitch in range(48, 72, 3)]
    with Synthesizer(SOUNDFONT, 22_050) as synthesizer, ThreadPoolExecutor(4) as threads:
        alone = [synthesizer.render(phrase) for phrase in phrases]
        together = list(threads.map(synthesizer.render, phrases))
    for one, other in zip(alone, together, strict=True):
        both = [np.abs(np.fft.rfft(audio[: 22_050 // 2])) for audio in (one, other)]
        assert np.corrcoef(*both)[0, 1] > 0.9


@needs_fluidsynth
def test_sent_to_another_process_it_is_loaded_there_once():
    phrase = notes((0.0, 0.5, 60))
    with Synthesizer(SOUNDFONT, 8_000) as synthesizer:
        sent = pickle.dumps(synthesizer)
        arrived, again = pickle.loads(sent), pickle.loads(sent)
        assert arrived is again and arrived is not synthesizer
        assert np.array_equal(arrived.render(phrase), synthesizer.render(phrase))


@needs_fluidsynth
def test_no_notes_is_silence():
    with Synthesizer(SOUNDFONT, 8_000) as synthesizer:
        assert np.abs(synthesizer.render(notes())).max() < 1e-3


@needs_fluidsynth
def test_a_file_that_is_no_soundfont_is_refused(tmp_path):
    path = tmp_path / "fake.sf2"
    path.write_bytes(b"RIFF nothing")
    with pytest.raises(RenderError, match=r"fake\.sf2: fluidsynth cannot load"):
        Synthesizer(path, 22_050)


def test_soundfonts_are_found_by_path_or_first_letters(tmp_path, monkeypatch):
    for name in ("Alpha.sf2", "beta.sf3"):
        (tmp_path / name).touch()
    monkeypatch.setenv("SF2_PATH", str(tmp_path))
    assert find_soundfont("alp").name == "Alpha.sf2"
    assert find_soundfont(str(tmp_path / "beta.sf3")).name == "beta.sf3"
    assert tmp_path / "beta.sf3" in pick_soundfonts(None)
    with pytest.raises(RenderError, match=r"no soundfont 'gamma' \(installed: .*Alpha\.sf2"):
        find_soundfont("gamma")


def test_no_soundfont_installed_says_what_to_give(monkeypatch):
    monkeypatch.setattr("mmid.music.synthesizer.find_soundfonts", lambda: [])
    with pytest.raises(RenderError, match="no soundfont installed: give one with --soundfont"):
        pick_soundfonts(None)


@needs_fluidsynth
def test_a_general_soundfont_has_all_instruments(monkeypatch):
    with Synthesizer(SOUNDFONT, 22_050) as synthesizer:
        assert synthesizer.is_complete()
        monkeypatch.setattr(
            synthesizer._synth, "sfpreset_name", lambda font, bank, program: program != 40
        )
        assert not synthesizer.is_complete()
