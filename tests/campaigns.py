"""Long runs: killed builds, damaged and broken files, by hundreds.

Usage: python tests/campaigns.py NAME ROUNDS, with a name of `CAMPAIGNS`. A line a fault, a summary,
exit status 1 if there was any. `tests/test_campaigns.py` runs a few rounds of each.
"""

from __future__ import annotations

import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fuzz.cases import CASES, Corpus, make_corpus
from fuzz.mutators import mutate_bytes
from fuzz.players import broken_audio, broken_midi
from fuzz.pool import fuzz
from fuzz.scores import SCORE_CASES
from killing import kills, small_library, small_model, tune

from mmid.errors import LibraryIndexError
from mmid.identify.batch import answer_files
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.manifest import GRAPH
from mmid.model.checkpoint import Checkpoint
from mmid.music.midi import write_midi


def prepare(folder: Path, rng: np.random.Generator) -> tuple[Path, Checkpoint]:
    """Write a library, a small model and an index."""
    library, index = small_library(folder / "library", rng), folder / "index"
    model = small_model(folder / "m.safetensors")
    update_index(index, [library], model, jobs=1)
    return index, model


def fuzz_kind(kind: str) -> Callable[..., Counter[str]]:
    """Return the campaign that reads so many mutated files of a kind."""

    def run(rounds: int, folder: Path, seed: int = 0) -> Counter[str]:
        return fuzz(kind, rounds, prepare_fuzz(folder), folder, seed)

    return run


def prepare_fuzz(folder: Path) -> Corpus:
    """Make what is mutated, and a recording and a MIDI file to ask about."""
    rng, weights = np.random.default_rng(0), folder / "m.safetensors"
    small_model(weights)
    corpus = make_corpus(folder, small_library(folder / "library", rng), weights)
    write_midi(tune(rng), folder / "asked.mid")
    (folder / "asked.wav").write_bytes(corpus.audio["wav"])
    return corpus


SETTLED, DRIFT = 0.1, 1.05
"""The part of a long run after which memory stays, and how far it may rise beyond."""


def queries(rounds: int, folder: Path, seed: int = 0) -> Counter[str]:
    """Ask in one process about pieces held and not held and bad files; watch what it takes."""
    corpus = prepare_fuzz(folder)
    rng, seen = np.random.default_rng(seed), Counter[str]()
    asked = [folder / "asked.mid", *sorted(folder.glob("a.*"))]
    for number in range(len(asked)):
        held_by_none, bad = folder / f"other {number}.mid", folder / f"bad {number}.wav"
        write_midi(tune(rng), held_by_none)
        bad.write_bytes(mutate_bytes(corpus.audio["wav"], rng, head=20)[: number * 10])
        asked += [held_by_none, bad, folder / f"missing {number}.wav"]
    levels: list[tuple[int, int]] = []
    index = LibraryIndex(corpus.index, corpus.model)
    options = SearchOptions(keys=(-1, 0, 1), tempo_ratios=(0.9, 1.0, 1.1))  # quicker
    identifier = Identifier(corpus.model, index, options)
    answers = answer_files(identifier, [asked[i % len(asked)] for i in range(rounds)])
    for answered in answers:
        seen["failed" if answered.answer.error else "answered"] += 1
        levels.append((_resident(), len(list(Path("/proc/self/fd").iterdir()))))
    settled = levels[int(SETTLED * rounds)]
    highest = [max(level[i] for level in levels[int(SETTLED * rounds) :]) for i in (0, 1)]
    seen["MB after the first tenth"], seen["MB at most after it"] = settled[0], highest[0]
    seen["descriptors after the first tenth"], seen["descriptors at most after it"] = (
        settled[1],
        highest[1],
    )
    seen["fault: memory grows"] += highest[0] > DRIFT * settled[0]
    seen["fault: descriptors grow"] += highest[1] > settled[1] + 2  # those of files being read
    return seen


def _resident() -> int:
    """Return the memory of this process, MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() >> 20


def damage(rounds: int, folder: Path, seed: int = 0) -> Counter[str]:
    """Harm a copy of an index in many ways; it must be refused or answer as before."""
    rng, seen = np.random.default_rng(seed), Counter[str]()
    index, model = prepare(folder, rng)
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
    "kills-update": partial(kills, kinds=("update",)),
    "damage": damage,
    "queries": queries,
    "broken-midi": broken_midi,
    "broken-audio": broken_audio,
    **{f"fuzz-{kind}": fuzz_kind(kind) for kind in (*CASES, *SCORE_CASES)},
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
