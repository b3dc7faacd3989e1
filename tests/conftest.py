"""Small seeded things most tests need: notes, a MIDI library, tiny models, recordings."""

from __future__ import annotations

import builtins
import os
import signal
import wave
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also of processes: tiny models need no more
os.environ.pop("COLUMNS", None)  # which pytest-xdist sets; tables are as wide as in a pipe

import numpy as np
import pytest
import torch
from tiny import EAR, TINY, shaken
from tunes import KNOWN

from mmid.cli.demo import write_library
from mmid.index.build import build_index, update_index
from mmid.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mmid.model.encoders import Encoders, ModelConfig
from mmid.model.loading import load_model
from mmid.music.grid import DEFAULT
from mmid.music.library import Piece, read_library
from mmid.music.midi import write_midi
from mmid.music.notes import NOTE_DTYPE

torch.set_num_threads(1)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one test more at a time than there are cores, as some wait for processes."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what tests have remembered out of the user's cache, also in the processes they start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMID_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


DrawNotes = Callable[..., np.ndarray]


def _notes(seed: int, count: int = 40, seconds: float = 20.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    notes = np.zeros(count, NOTE_DTYPE)
    notes["onset"] = np.sort(rng.integers(0, int(seconds * 100), count) / 100)
    notes["offset"] = notes["onset"] + rng.integers(5, 80, count) / 100
    notes["pitch"] = rng.integers(40, 90, count)
    notes["velocity"] = rng.integers(40, 120, count)
    notes["program"] = rng.integers(0, 4, count)
    return notes


NEED_DEV = {"browser", "site", "tensorboard"}
"""Fixtures that skip a test without the extra dev."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need the extra dev."""
    for item in items:
        if isinstance(item, pytest.Function) and NEED_DEV & set(item.fixturenames):
            item.add_marker("dev")


@pytest.fixture(scope="session")
def tensorboard() -> None:
    """Skip a test where TensorBoard is not installed."""
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install 'mmid[train]'")


@pytest.fixture(scope="session")
def draw_notes() -> DrawNotes:
    """Return a function that draws ``count`` random notes within ``seconds``, for a seed."""
    return _notes


@pytest.fixture
def midi_folder(tmp_path: Path) -> Path:
    """Return a folder of six short pieces, one of them in a folder of its own."""
    folder = tmp_path / "library"
    (folder / "more").mkdir(parents=True)
    for seed in range(6):
        place = folder / "more" if seed == 5 else folder
        write_midi(_notes(seed), place / f"piece {seed}.mid")
    return folder


@pytest.fixture
def pieces(midi_folder: Path) -> list[Piece]:
    """Return the pieces of `midi_folder`."""
    return read_library([midi_folder], jobs=1)[0]


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    """Return a model of the default grid that runs in no time."""
    return ModelConfig(DEFAULT, TINY, TINY)


@pytest.fixture(scope="session")
def transcribing_config(tiny_config: ModelConfig) -> ModelConfig:
    """Return a tiny model whose audio pathway takes the notes that a transcriber hears."""
    return replace(tiny_config, transcriber=EAR)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT interrupt this process and those it starts, as it may not in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def shake() -> Callable[..., Encoders]:
    """Return a function that fills the batch norms with random statistics, for evaluation."""
    return shaken


@pytest.fixture(scope="session")
def make_model(
    tmp_path_factory: pytest.TempPathFactory, tiny_config: ModelConfig
) -> Callable[..., Checkpoint]:
    """Return a function that makes a tiny model with the random weights of a seed."""

    def make(seed: int, config: ModelConfig = tiny_config) -> Checkpoint:
        torch.manual_seed(seed)
        path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
        save_checkpoint(path, shaken(Encoders(config), seed), {"seed": seed})
        return load_checkpoint(path)

    return make


@pytest.fixture(scope="session")
def tiny_model(make_model: Callable[..., Checkpoint]) -> Checkpoint:
    """Return a tiny model with random weights."""
    return make_model(0)


@pytest.fixture(scope="session")
def transcribing_model(
    make_model: Callable[..., Checkpoint], transcribing_config: ModelConfig
) -> Checkpoint:
    """Return a tiny model with random weights and a transcriber."""
    return make_model(0, transcribing_config)


def _write_wav(path: Path, samples: np.ndarray, rate: int = DEFAULT.sample_rate) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes((np.clip(samples, -1, 1) * 32_767).astype("<i2").tobytes())
    return path


@pytest.fixture(scope="session")
def write_wav() -> Callable[..., Path]:
    """Return a function that writes mono samples as a 16-bit WAV file and gives back its path."""
    return _write_wav


def _sines(notes: np.ndarray, seconds: float | None = None) -> np.ndarray:
    rate = DEFAULT.sample_rate
    end = float(notes["offset"].max()) if seconds is None else seconds
    samples = np.zeros(int(end * rate), np.float32)
    for note in notes:
        first, last = int(note["onset"] * rate), min(int(note["offset"] * rate), len(samples))
        time = np.arange(last - first) / rate
        tone = np.sin(2 * np.pi * 440 * 2 ** ((int(note["pitch"]) - 69) / 12) * time)
        samples[first:last] += 0.3 * tone * np.exp(-3 * time)
    return samples


@pytest.fixture(scope="session")
def play() -> Callable[..., np.ndarray]:
    """Return a function that plays notes as decaying sines on the grid's rate."""
    return _sines


@pytest.fixture
def recording(tmp_path: Path, pieces: list[Piece]) -> Path:
    """Return eight seconds of the third piece, played as decaying sines."""
    return _write_wav(tmp_path / "recording.wav", _sines(pieces[2].midi.notes)[: 22_050 * 8])


@pytest.fixture(scope="session")
def tunes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the demo's tunes in ``library``."""
    folder = tmp_path_factory.mktemp("tunes")
    write_library(folder / "library")
    return folder


@pytest.fixture(scope="session")
def demo_tunes(tunes_folder: Path) -> list[Piece]:
    """Return the demo's tunes, which `demo_index` holds."""
    tunes, bad = read_library([tunes_folder / "library"], jobs=1)
    assert not bad
    return tunes


@pytest.fixture(scope="session")
def known_tunes(demo_tunes: list[Piece]) -> dict[str, Piece]:
    """Return eight of the tunes by name, which `tunes_index` holds."""
    return {tune.name: tune for tune in demo_tunes if tune.name in KNOWN}


@pytest.fixture(scope="session")
def tunes_index(tunes_folder: Path, known_tunes: dict[str, Piece]) -> Path:
    """Return the packaged model's index of eight tunes."""
    build_index(tunes_folder / "index", list(known_tunes.values()), load_model())
    return tunes_folder / "index"


@pytest.fixture(scope="session")
def demo_index(tunes_folder: Path, demo_tunes: list[Piece]) -> Path:
    """Return the packaged model's index of the demo's tunes."""
    build_index(tunes_folder / "demo", demo_tunes, load_model())
    return tunes_folder / "demo"


@pytest.fixture
def built(tmp_path: Path, midi_folder: Path, tiny_model: Checkpoint) -> Path:
    """Return the index of `midi_folder`."""
    update_index(tmp_path / "index", [midi_folder], tiny_model, jobs=1)
    return tmp_path / "index"


@pytest.fixture
def options(tmp_path: Path, tiny_model: Checkpoint) -> list[str]:
    """Return what has a command use `built` and its model."""
    save_checkpoint(tmp_path / "tiny.safetensors", tiny_model.encoders, {})
    return ["--index", str(tmp_path / "index"), "--model", str(tmp_path / "tiny.safetensors")]


@pytest.fixture
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute networks in float32."""
    off = torch.autocast("cpu", enabled=False)
    monkeypatch.setattr(Encoders, "autocast", lambda self: off)


@pytest.fixture
def no_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as if matplotlib were not installed."""
    load = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError("gone", name=name)
        return load(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
