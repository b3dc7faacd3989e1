"""Long runs against the index: killed builds and damaged files, by hundreds.

Usage: python tests/campaigns.py NAME ROUNDS, with a name of `CAMPAIGNS`. A line a fault, a summary,
exit status 1 if there was any. `tests/test_campaigns.py` runs a few rounds of each.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from conftest import EAR, TINY
from conftest import _shake as shaken
from fuzz.cases import CASES, Corpus, make_corpus
from fuzz.pool import fuzz

from mmid.build import update_index
from mmid.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from mmid.encoders import Encoders, ModelConfig
from mmid.errors import LibraryIndexError
from mmid.index import GRAPH, LibraryIndex
from mmid.midi import NOTE_DTYPE, write_midi
from mmid.params import DEFAULT
from mmid.upkeep import verify_index

UPDATE = """
import sys
from pathlib import Path
import mmid.pending
from mmid.build import update_index
from mmid.checkpoint import load_checkpoint
mmid.pending.SHARD_SECONDS = 0.02
model = load_checkpoint(Path(sys.argv[3]))
print("ready", flush=True)
update_index(Path(sys.argv[1]), [Path(sys.argv[2])], model, jobs=1)
"""

PIECES = 24


def tune(rng: np.random.Generator) -> np.ndarray:
    """Draw notes for some seconds of music."""
    count = int(rng.integers(20, 60))
    notes = np.zeros(count, NOTE_DTYPE)
    notes["onset"] = np.sort(rng.uniform(0, 12, count)).round(2)
    notes["offset"] = notes["onset"] + 0.4
    notes["pitch"], notes["velocity"] = rng.integers(40, 90, count), 80
    return notes


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
        arrays = (item.vectors, item.places, item.notes)
        held[entry.name] = (entry.digest.encode(), *(a.tobytes() for a in arrays))
    return held


def prepare(folder: Path, rng: np.random.Generator) -> tuple[Path, Path, Checkpoint, Path]:
    """Write a library, a small model and an index."""
    library, index, weights = folder / "library", folder / "index", folder / "m.safetensors"
    library.mkdir()
    for number in range(PIECES):
        write_midi(tune(rng), library / f"{number}.mid")
    save_checkpoint(weights, Encoders(ModelConfig()), {})
    model = load_checkpoint(weights)
    update_index(index, [library], model, jobs=1)
    return library, index, model, weights


def kills(rounds: int, folder: Path, seed: int = 0) -> Counter[str]:
    """Kill updates, first builds among them, at random moments; compare what is left."""
    rng, seen = np.random.default_rng(seed), Counter[str]()
    library, index, model, weights = prepare(folder, rng)
    command = [sys.executable, "-c", UPDATE, str(index), str(library), str(weights)]
    usual = 1.0
    for number in range(rounds):
        if number % 10 == 9:
            shutil.rmtree(index)  # a first build
        else:
            change(library, rng)
        old = contents(index) if (index / "manifest.json").exists() else None
        wanted = folder / "wanted"
        shutil.rmtree(wanted, ignore_errors=True)
        update_index(wanted, [library], model, jobs=1)
        new = contents(wanted)
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert process.stdout
        process.stdout.readline()
        started = time.perf_counter()
        try:
            process.wait(usual * rng.uniform(0, 1.1))
            usual = 0.9 * usual + 0.1 * (time.perf_counter() - started)
            seen["done before it was killed"] += 1
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            seen["killed"] += 1
        process.stdout.close()
        seen[_state(index, old, new)] += 1
    update_index(index, [library], model, jobs=1)
    new = contents(index)
    shutil.rmtree(folder / "wanted")
    update_index(folder / "wanted", [library], model, jobs=1)
    seen["fault: the last index"] += new != contents(folder / "wanted")
    return seen


def _state(index: Path, old: dict | None, new: dict) -> str:
    try:
        now = contents(index)
        if verify_index(index).faults:
            return "fault: damaged"
    except LibraryIndexError:
        return "none yet" if old is None else "fault: gone"
    return "old" if now == old else "new" if now == new else "fault: neither old nor new"


def fuzz_kind(kind: str) -> Callable[..., Counter[str]]:
    """Return the campaign that reads so many mutated files of a kind."""

    def run(rounds: int, folder: Path, seed: int = 0) -> Counter[str]:
        return fuzz(kind, rounds, prepare_fuzz(folder), folder, seed)

    return run


def prepare_fuzz(folder: Path) -> Corpus:
    """Make what is mutated, and a recording and a MIDI file to ask about."""
    rng, library, weights = np.random.default_rng(0), folder / "library", folder / "m.safetensors"
    library.mkdir()
    for number in range(PIECES):
        write_midi(tune(rng), library / f"{number}.mid")
    write_midi(tune(rng), folder / "asked.mid")
    config = ModelConfig(DEFAULT, TINY, TINY, transcriber=EAR)
    torch.manual_seed(0)
    save_checkpoint(weights, shaken(Encoders(config)), {})
    corpus = make_corpus(folder, library, weights)
    (folder / "asked.wav").write_bytes(corpus.audio["wav"])
    return corpus


def damage(rounds: int, folder: Path, seed: int = 0) -> Counter[str]:
    """Harm a copy of an index in many ways; it must be refused or answer as before."""
    rng, seen = np.random.default_rng(seed), Counter[str]()
    _, index, model, _ = prepare(folder, rng)
    queries = rng.normal(size=(8, LibraryIndex(index, model).vectors.shape[1]))
    queries = (queries / np.linalg.norm(queries, axis=1, keepdims=True)).astype(np.float32)
    true = {how: LibraryIndex(index, model).search(queries, 5, how)[0] for how in ("exact", "hnsw")}
    for _ in range(rounds):
        harmed = folder / "harmed"
        shutil.rmtree(harmed, ignore_errors=True)
        shutil.copytree(index, harmed)
        files = sorted(path for path in harmed.rglob("*") if path.is_file() and path.stat().st_size)
        how = harm(files, rng)
        for search in ("exact", "hnsw"):
            try:
                found = LibraryIndex(harmed, model).search(queries, 5, search)[0]
                right = np.array_equal(found, true[search])
                seen["answers as before" if right else f"fault: wrong after {how}"] += 1
            except LibraryIndexError as error:
                seen["refused" if "\n" not in str(error) else "fault: no line"] += 1
            except Exception as error:
                seen[f"fault: {type(error).__name__} after {how}"] += 1
    return seen


def harm(files: list[Path], rng: np.random.Generator) -> str:
    """Harm one of the files of an index; say how."""
    path, other = (files[rng.integers(len(files))] for _ in range(2))
    data = bytearray(path.read_bytes())
    place = int(rng.integers(len(data)))
    how = ("truncated", "flipped", "swapped", "missing", "zeroed", "crafted")[rng.integers(6)]
    if how == "truncated":
        path.write_bytes(data[:place])
    elif how == "flipped":
        data[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
    elif how == "swapped":
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
    elif how == "missing":
        path.unlink()
    elif how == "zeroed":
        path.write_bytes(bytes(len(data)))
    else:  # a graph whose header promises what is not there
        graph = next((p for p in files if p.name == GRAPH), path)
        graph.write_bytes(graph.read_bytes()[:96] + rng.bytes(2_000))
    return f"{path.name} {how}"


CAMPAIGNS: dict[str, Callable[..., Counter[str]]] = {
    "kills": kills,
    "damage": damage,
    **{f"fuzz-{kind}": fuzz_kind(kind) for kind in CASES},
}


def main() -> None:
    """Run a campaign and print what was seen."""
    run = CAMPAIGNS[sys.argv[1]]
    began = time.perf_counter()
    with TemporaryDirectory(prefix="mmid-") as folder:
        seen = run(int(sys.argv[2]), Path(folder))
    for what, count in sorted(seen.items()):
        if count:
            print(f"{count:6} {what}")
    print(f"{time.perf_counter() - began:6.0f} seconds")
    raise SystemExit(any(count for what, count in seen.items() if what.startswith("fault")))


if __name__ == "__main__":
    main()
