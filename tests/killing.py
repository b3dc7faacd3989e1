"""Builds, updates, training, queries and downloads killed at random moments, over and over.

Conventions: each kind of work is a class with ``work``, done in a child process that is killed, and
``state``, which tells what was left: ``fault: ...`` where anything is lost or half-written.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Protocol
from unittest.mock import patch

import numpy as np
import torch
from loopback_hub import REPOSITORY, LoopbackHub
from safetensors.numpy import save_file
from tiny import EAR, TINY, shaken

import mmid.index.pending
import mmid.output.page.page
from mmid.errors import LibraryIndexError, MmidError
from mmid.identify.batch import answer_files, hand_out
from mmid.identify.identifier import Identifier
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import verify_index
from mmid.model.checkpoint import Checkpoint, load_checkpoint, load_tensors, save_checkpoint
from mmid.model.encoders import Encoders, ModelConfig
from mmid.model.registry import find_weights
from mmid.music.grid import DEFAULT
from mmid.music.midi import write_midi
from mmid.music.notes import NOTE_DTYPE
from mmid.music.piano_roll import piano_roll
from mmid.output.page.media import Exhibit
from mmid.output.playlist import Playlist
from mmid.output.sidecar import Origin, Sidecars
from mmid.training import loop
from mmid.training.corpus import LEVELS
from mmid.training.experiment import Experiment
from mmid.training.snippet_pairs import PairSource
from mmid.training.tasks import make_task

PIECES = 24


def tune(rng: np.random.Generator) -> np.ndarray:
    """Draw notes for some seconds of music."""
    count = int(rng.integers(20, 60))
    notes = np.zeros(count, NOTE_DTYPE)
    notes["onset"] = np.sort(rng.uniform(0, 12, count)).round(2)
    notes["offset"] = notes["onset"] + 0.4
    notes["pitch"], notes["velocity"] = rng.integers(40, 90, count), 80
    return notes


def small_model(path: Path) -> Checkpoint:
    """Save and load a tiny model that hears notes."""
    torch.manual_seed(0)
    config = ModelConfig(DEFAULT, TINY, TINY, transcriber=EAR)
    save_checkpoint(path, shaken(Encoders(config)), {})
    return load_checkpoint(path)


def small_library(folder: Path, rng: np.random.Generator) -> Path:
    """Write a library of a few short pieces."""
    folder.mkdir()
    for number in range(PIECES):
        write_midi(tune(rng), folder / f"{number}.mid")
    return folder


class Work(Protocol):
    """What is killed."""

    def prepare(self, rng: np.random.Generator) -> None:
        """Get ready for a round."""

    def work(self) -> None:
        """Work, in a process of its own."""

    def state(self) -> str:
        """Tell what is left."""


class Updates:
    """An index brought up to a library that changes; every tenth time it is built anew."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        folder.mkdir()
        self._library = small_library(folder / "library", rng)
        self._index, self._wanted = folder / "index", folder / "wanted"
        self._model = small_model(folder / "m.safetensors")
        self._old: dict | None = None

    def prepare(self, rng: np.random.Generator) -> None:
        if rng.random() < 0.1:
            shutil.rmtree(self._index, ignore_errors=True)
        else:
            update_index(self._index, [self._library], self._model, jobs=1)
            change(self._library, rng)
        self._old = contents(self._index) if (self._index / "manifest.json").exists() else None
        shutil.rmtree(self._wanted, ignore_errors=True)
        update_index(self._wanted, [self._library], self._model, jobs=1)

    def work(self) -> None:
        with patch.object(mmid.index.pending, "SHARD_SECONDS", 0.02):
            update_index(self._index, [self._library], self._model, jobs=1)

    def state(self) -> str:
        try:
            now = contents(self._index)
            if verify_index(self._index).faults:
                return "fault: damaged"
        except LibraryIndexError:
            return "none yet" if self._old is None else "fault: gone"
        if now == self._old:
            return "old"
        return "new" if now == contents(self._wanted) else "fault: neither old nor new"


def change(library: Path, rng: np.random.Generator) -> None:
    """Add, edit, rename or delete a few files."""
    for _ in range(int(rng.integers(1, 5))):
        files = sorted(library.glob("*.mid"))
        chosen = files[rng.integers(len(files))]
        what = rng.integers(4)
        if what == 0 or len(files) < PIECES // 2:
            write_midi(tune(rng), library / f"{rng.integers(10**9)}.mid")
        elif what == 1:
            write_midi(tune(rng), chosen)
        elif what == 2:
            chosen.rename(library / f"{rng.integers(10**9)}.mid")
        else:
            chosen.unlink()


def contents(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """Return what an index holds, by name; raises if it is not whole."""
    index, held = LibraryIndex(folder, None), {}
    for number, entry in enumerate(index.entries):
        item = index.item(number)
        arrays = (item.vectors, item.positions, item.notes)
        held[entry.name] = (entry.digest.encode(), *(a.tobytes() for a in arrays))
    return held


class Training:
    """A short run that goes on after every kill; its end must be that of a run left alone."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        folder.mkdir()
        paths = [_rendering(folder / f"{i}.safetensors", tune(rng)) for i in range(12)]
        self._sources = tuple(PairSource(side, DEFAULT, None) for side in (paths[:8], paths[8:]))
        self._folder, alone = folder / "run", folder / "alone"
        self._epochs = [_digest(alone / loop.STATE_NAME) for _ in self._run(alone)]

    def _run(self, folder: Path) -> Iterator[loop.Epoch]:
        experiment = Experiment(
            epochs=4, epoch_pairs=48, batch=16, validation_pairs=40, augment=(), neighbours=4
        )
        with patch.object(Experiment, "model", ModelConfig(DEFAULT, TINY, TINY)):
            task = make_task(experiment, torch.device("cpu"))
            yield from loop.Trainer(folder, task, experiment, {}).run(*self._sources)

    def prepare(self, rng: np.random.Generator) -> None:
        if self.state() == "epoch 4":
            shutil.rmtree(self._folder)

    def work(self) -> None:
        list(self._run(self._folder))

    def state(self) -> str:
        path = self._folder / loop.STATE_NAME
        if not path.exists():
            return "epoch 0"
        try:
            load_checkpoint(self._folder / loop.BEST_NAME)
            return f"epoch {1 + self._epochs.index(_digest(path))}"
        except (MmidError, ValueError) as error:
            return f"fault: {error}"


def _rendering(path: Path, notes: np.ndarray) -> Path:
    bands = torch.nn.functional.pad(piano_roll(notes, 270)[0][30:110], (0, 0, 6, 6))
    arrays = {
        "spectrogram": np.ascontiguousarray((bands.T * LEVELS).byte().numpy()),
        "times": np.stack([notes["onset"], notes["offset"]], 1).astype(np.float32),
        "pitches": np.ascontiguousarray(notes["pitch"]),
        "programs": np.ascontiguousarray(notes["program"]),
    }
    save_file(arrays, path)
    return path


def _digest(path: Path) -> str:
    tensors, header = load_tensors(path)
    digest = hashlib.sha256(repr(sorted(header.items())).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].numpy().tobytes())
    return digest.hexdigest()


class Queries:
    """A batch of MIDI files with sidecars, a playlist and a report."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        folder.mkdir()
        model = small_model(folder / "m.safetensors")
        self._library = small_library(folder / "library", rng)
        update_index(folder / "index", [self._library], model, jobs=1)
        self._identifier = Identifier(model, LibraryIndex(folder / "index", model))
        self._takes = folder / "takes"
        self._takes.mkdir()
        for number in range(3):
            write_midi(tune(rng), self._takes / f"{number}.mid")
        self.work()
        self._whole = self._written()

    def _written(self) -> dict[str, bytes]:
        found = self._takes.glob("*[!d]")
        return {path.name: path.read_bytes() for path in found if path.suffix != ".part"}

    def prepare(self, rng: np.random.Generator) -> None:
        for path in [*self._takes.glob("*[!d]")]:
            path.unlink()

    def work(self) -> None:
        files = sorted(self._takes.glob("*.mid"))
        page = mmid.output.page.page.Page(self._takes / "page.html", self._identifier)
        sinks = [Sidecars(Origin("a", "b")), Playlist(self._takes / "a.m3u8"), page]
        with patch.object(
            mmid.output.page.page, "prepare_exhibit", lambda *_: Exhibit()
        ):  # no time to draw
            hand_out(answer_files(self._identifier, files), sinks, print)

    def state(self) -> str:
        written = self._written()
        if any(self._whole.get(name) != content for name, content in written.items()):
            return "fault: half-written"
        return "all" if written == self._whole else "some"


class Downloads:
    """A model that a hub on this machine sends."""

    def __init__(self, folder: Path, rng: np.random.Generator) -> None:
        folder.mkdir()
        small_model(folder / "m.safetensors")
        self._content = (folder / "m.safetensors").read_bytes()
        self._cache, self._hub = folder / "cache", LoopbackHub(self._content)
        own = {"HF_ENDPOINT": self._hub.address, "MMID_CACHE": str(self._cache)}
        self._environment = own | {"HF_HOME": str(folder / "home"), "NO_PROXY": "127.0.0.1"}

    def prepare(self, rng: np.random.Generator) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)

    def work(self) -> None:
        with patch.dict(os.environ, self._environment):
            find_weights(f"hf://{REPOSITORY}")

    def state(self) -> str:
        found = [path.read_bytes() for path in self._cache.glob("models/hub/**/*.safetensors")]
        if any(content != self._content for content in found):
            return "fault: half of it is left"
        return "there" if found else "none yet"


KINDS: dict[str, Callable[[Path, np.random.Generator], Work]] = {
    "update": Updates,
    "train": Training,
    "query": Queries,
    "download": Downloads,
}


def kills(
    rounds: int, folder: Path, seed: int = 0, kinds: Iterable[str] = tuple(KINDS)
) -> Counter[str]:
    """Kill each kind of work at random moments; compare what is left, and finish it in the end."""
    rng, seen = np.random.default_rng(seed), Counter[str]()
    works = {kind: KINDS[kind](folder / kind, rng) for kind in kinds}
    usual = dict.fromkeys(works, 0.0)
    for number in range(rounds):
        kind = list(works)[number % len(works)]
        works[kind].prepare(rng)
        seconds, killed = _killed(works[kind].work, usual[kind] * rng.uniform(0, 1.1))
        if not killed:
            usual[kind] = 0.8 * usual[kind] + 0.2 * seconds if usual[kind] else seconds
        seen[f"{kind}: {'killed' if killed else 'done before it was killed'}"] += 1
        state = works[kind].state()
        seen[state if state.startswith("fault") else f"{kind}: {state}"] += 1
        if state.startswith("fault"):
            print(f"{kind} {number}: {state}")
    ends = {"update": "new", "train": "epoch 4", "query": "all", "download": "there"}
    for kind, work in works.items():
        work.work()
        seen[f"fault: {kind} does not go on"] += work.state() != ends[kind]
    return seen


def _killed(work: Callable[[], None], after: float) -> tuple[float, bool]:
    """Do something in a process and kill it after a while, if it is given one."""
    process = get_context("fork").Process(target=work)
    began = time.perf_counter()
    process.start()
    process.join(after or None)
    killed = process.is_alive()
    process.kill()
    process.join()
    return time.perf_counter() - began, killed
