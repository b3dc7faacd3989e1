"""`mmid listen`: guesses while music is heard, from a file and from a made-up microphone."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import mmid
from mmid.cli.app import app
from mmid.identify import live as listening
from mmid.identify.answer import Identification, Match
from mmid.identify.live import SPAN, STEP, SoundSource, file_source, listen, microphone
from mmid.model.checkpoint import save_checkpoint

RATE = 8_000


class Answers:
    """Identifies as it was made to, and remembers what was queried."""

    def __init__(self, *answers: tuple[str, float]) -> None:
        self._answers, self.asked = answers, []

    def __call__(self, sound, rate) -> Identification:
        self.asked.append(sound)
        piece, confidence = self._answers[min(len(self.asked), len(self._answers)) - 1]
        match = Match(piece, confidence, 0.5, 0.5, 0.1, 0.1, 0.0, 1.0, 1.0, 0)
        return Identification("", len(sound) / rate, confidence > 0.5, (match,))


def source(seconds: float, level: float = 0.1) -> SoundSource:
    blocks = [np.full(RATE, level + n, np.float32) for n in range(int(seconds))]
    return SoundSource("made up", RATE, iter(blocks))


def test_it_stops_when_two_guesses_in_a_row_are_sure_of_one_piece():
    index = Answers(("a", 0.95), ("b", 0.95), ("b", 0.85), ("b", 0.95), ("b", 0.95), ("b", 1.0))
    guesses = list(listen(index, source(60), 60))
    assert [guess.sure for guess in guesses] == [False] * 4 + [True]
    assert [guess.heard for guess in guesses] == [3, 4, 5, 6, 7]
    assert guesses[-1].answer.query == "made up"


def test_it_stops_when_the_time_is_over():
    guesses = list(listen(Answers(("a", 0.5)), source(60), 5))
    assert [guess.heard for guess in guesses] == [3, 4, 5] and not guesses[-1].sure


def test_a_short_time_is_asked_about_as_it_is():
    assert [guess.heard for guess in listen(Answers(("a", 0.5)), source(60), 1)] == [1]


def test_a_source_that_ends_early_is_asked_about_once():
    assert [guess.heard for guess in listen(Answers(("a", 0.5)), source(2), 60)] == [2]


def test_only_the_newest_sound_is_asked_about():
    index = Answers(("a", 0.5))
    guesses = list(listen(index, source(40), 60))
    assert guesses[-1].heard == 40
    assert max(len(sound) for sound in index.asked) == SPAN * RATE
    assert index.asked[-1][-1] == pytest.approx(39.1) and index.asked[-1][0] == pytest.approx(10.1)


def test_silence_is_told():
    [guess] = listen(Answers(("a", 0.5)), SoundSource("", RATE, iter([np.zeros(3 * RATE)])), 3)
    assert guess.silent
    [guess] = listen(Answers(("a", 0.5)), source(3), 3)
    assert not guess.silent


def test_a_source_that_gives_nothing_is_one_line():
    with pytest.raises(mmid.MmidError, match="made up: gives no sound"):
        list(listen(Answers(("a", 0.5)), source(0), 3))


# ---- a file in place of a microphone


def test_a_file_is_played_fast_in_steps(recording):
    blocks = list(file_source(recording, fast=True).blocks)
    assert sum(map(len, blocks)) == 22_050 * 8
    assert all(len(block) >= STEP * 22_050 for block in blocks[:-1])


def test_a_file_in_real_time_takes_its_time_and_hands_out_what_was_missed(recording, monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(listening, "monotonic", lambda: clock.now)
    monkeypatch.setattr(listening, "sleep", lambda s: setattr(clock, "now", clock.now + s))
    played, lengths = 0, []
    for block in file_source(recording).blocks:
        played += len(block)
        lengths.append(len(block) / 22_050)
        assert played / 22_050 <= clock.now + 1e-6 or played == 22_050 * 8
        clock.now += 2.5 if len(lengths) == 1 else 0.0  # someone thinks for long
    assert played == 22_050 * 8
    assert lengths[1] >= 2.5 and max(lengths[2:-1], default=0) < 2


# ---- a microphone


class FakeInput:
    """A sounddevice that hears what it is given, or fails."""

    class PortAudioError(Exception):
        pass

    def __init__(self, sound: np.ndarray, inputs: int = 1, fails: str | None = None) -> None:
        self._sound, self._inputs, self._fails = sound, inputs, fails
        self.closed = False

    def query_devices(self, name=None, kind=None):
        devices = [
            {"name": f"Mic {n}", "index": n, "max_input_channels": 1, "default_samplerate": 8e3}
            for n in range(self._inputs)
        ]
        if kind is None:
            return [*devices, {"name": "Loudspeaker", "max_input_channels": 0}]
        found = [device for device in devices if (name or "") in device["name"]]
        if not found:
            raise self.PortAudioError("Error querying device -1")
        return found[0]

    def InputStream(self, rate, *, device, channels, dtype, callback):
        if self._fails:
            raise self.PortAudioError(self._fails)
        self._callback = callback
        return self

    def __enter__(self):
        for block in np.array_split(self._sound, 20):
            self._callback(block[:, None], len(block), None, None)

    def __exit__(self, *_):
        self.closed = True


@pytest.fixture
def plug_in(monkeypatch):
    def plug(*arguments, **named) -> FakeInput:
        fake = FakeInput(*arguments, **named)
        monkeypatch.setitem(sys.modules, "sounddevice", fake)
        return fake

    return plug


def test_a_microphone_is_heard_whole_and_let_go(plug_in):
    sound = np.arange(2 * RATE, dtype=np.float32)
    fake = plug_in(sound)
    with microphone() as heard:
        assert heard.rate == RATE and heard.name == "Mic 0"
        assert np.array_equal(next(heard.blocks), sound)
    assert fake.closed


def test_a_microphone_that_falls_silent_for_good_is_one_line(plug_in, monkeypatch):
    monkeypatch.setattr(listening, "PATIENCE", 0.05)
    plug_in(np.zeros(100, np.float32))
    with (
        pytest.raises(mmid.MmidError, match="Mic 0: gives no sound any more"),
        microphone() as heard,
    ):
        next(heard.blocks)


@pytest.mark.parametrize(
    ("fake", "name", "said"),
    [
        ({"inputs": 0}, None, "no microphone found"),
        ({}, "Line", "no microphone named 'Line': give --device-name, one of Mic 0"),
        ({"fails": "Device unavailable"}, None, r"cannot listen \(Device unavailable\)"),
    ],
)
def test_what_is_wrong_with_a_microphone_is_one_line(plug_in, fake, name, said):
    plug_in(np.zeros(1), **fake)
    with pytest.raises(mmid.MmidError, match=said) as failure, microphone(name):
        pass
    assert "\n" not in str(failure.value)


def test_without_sounddevice_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(mmid.MmidError, match=r"pip install 'mmid\[listen\]'"), microphone():
        pass


# ---- the command

runner = CliRunner()


@pytest.fixture
def options(tmp_path, midi_folder, tiny_model) -> list[str]:
    mmid.Index.build(tmp_path / "index", midi_folder, tiny_model)
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model.encoders, {})
    return ["--index", str(tmp_path / "index"), "--model", str(tmp_path / "tiny.safetensors")]


def invoke(*arguments: object):
    return runner.invoke(app, ["listen", *map(str, arguments)])


def test_every_guess_is_a_json_line(options, recording):
    result = invoke("--from", recording, "--fast", "--seconds", 4, "--json", *options)
    guesses = [json.loads(line) for line in result.stdout.splitlines()]
    assert result.exit_code == 0 and len(guesses) >= 1
    assert all(a["heard"] < b["heard"] for a, b in pairwise(guesses))
    assert guesses[-1]["query"] == str(recording) and guesses[-1]["matches"]
    assert list(guesses[0])[:4] == ["heard", "sure", "silent", "query"]


def test_lines_on_stderr_and_a_table_in_the_end(options, recording):
    result = invoke("--from", recording, "--fast", *options)
    assert result.exit_code == 0
    assert "confidence" in result.stdout and "listening to" in result.stderr
    assert result.stderr.count(" s  ") >= 2


def test_ctrl_c_ends_with_the_best_guess(options, recording, monkeypatch):
    def interrupted(identify, sound, seconds):
        yield next(listen(identify, sound, seconds))
        raise KeyboardInterrupt

    monkeypatch.setattr(listening, "listen", interrupted)
    result = invoke("--from", recording, "--fast", *options)
    assert result.exit_code == 0 and "confidence" in result.stdout


def test_ctrl_c_before_any_guess_is_one_line(options, recording, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(listening, "listen", interrupted)
    result = invoke("--from", recording, "--fast", *options)
    assert result.exit_code == 130 and result.stdout == ""
    assert result.stderr.splitlines()[-1] == "mmid: stopped"


def test_inputs_are_listed(plug_in):
    plug_in(np.zeros(1), inputs=2)
    assert invoke("--list-inputs").stdout == "Mic 0\nMic 1\n"


def test_real_time_is_not_outrun(options, recording, monkeypatch):
    waits = []
    monkeypatch.setattr(listening, "monotonic", lambda: 100 + sum(waits))
    monkeypatch.setattr(listening, "sleep", waits.append)
    result = invoke("--from", recording, "--seconds", 2, *options)
    assert result.exit_code == 0 and 2 <= sum(waits) <= 2 + STEP
