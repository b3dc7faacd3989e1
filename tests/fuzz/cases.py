"""What is done with mutated files: each is read as a user's command would.

Conventions: a case writes files to a folder of its own, reads them, and returns ``read`` or
``refused``; it raises anything but an `MmidError` of one line, or returns ``fault: ...``, where
mmid is at fault.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from unittest.mock import patch

import av
import numpy as np

import mmid
from fuzz.mutators import Rng, midi_song, mutate_bytes, mutate_text
from mmid.errors import MmidError
from mmid.identify.batch import Answered
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import verify_index
from mmid.model import registry
from mmid.model.checkpoint import Checkpoint, load_checkpoint
from mmid.model.loading import describe_model
from mmid.model.registry import list_models
from mmid.music.midi import read_midi
from mmid.music.pairs import read_pairs
from mmid.output.sidecar import Origin, Sidecars

RATE = 22_050

CONTAINERS = {
    "wav": "pcm_s16le",
    "flac": "flac",
    "ogg": "vorbis",
    "mp3": "libmp3lame",
    "m4a": "aac",
    "aac": "aac",
    "opus": "libopus",
}
"""Every kind of recording that mmid offers to read, and a codec of it."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """What is mutated, made by mmid itself.

    Parameters
    ----------
    midi, audio : list of bytes
    index : Path
    weights : Path
    model : Checkpoint
    identifier : Identifier
        Of that index.
    """

    midi: list[bytes]
    audio: dict[str, bytes]
    index: Path
    weights: Path
    model: Checkpoint
    identifier: Identifier


def make_corpus(folder: Path, library: Path, weights: Path) -> Corpus:
    """Make an index of a small library, and short recordings in every container."""
    model = load_checkpoint(weights)
    update_index(folder / "index", [library], model, jobs=1)
    identifier = Identifier(model, LibraryIndex(folder / "index", model))
    midi = [path.read_bytes() for path in sorted(library.glob("*.mid"))[:6]]
    audio = {kind: encode(folder / f"a.{kind}", CONTAINERS[kind]) for kind in CONTAINERS}
    return Corpus(midi, audio, folder / "index", weights, model, identifier)


def encode(path: Path, codec: str, seconds: float = 1.5, rate: int = 48_000) -> bytes:
    """Encode a sweep; return the file's bytes."""
    time = np.arange(int(seconds * rate)) / rate
    sound = (0.4 * np.sin(2 * np.pi * (300 + 300 * time) * time)).astype(np.float32)
    with av.open(str(path), "w") as out:
        options = {"strict": "-2"}  # FFmpeg's own Vorbis is experimental
        stream = out.add_stream(codec, rate=rate, layout="stereo", options=options)
        out.start_encoding()
        size = stream.frame_size or 4_096
        shape = av.AudioResampler(stream.format.name, "stereo", rate, size)
        frame = av.AudioFrame.from_ndarray(sound[None], "flt", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for piece in [*shape.resample(frame), *shape.resample(None)]:
            out.mux(stream.encode(piece))
        out.mux(stream.encode(None))
    return path.read_bytes()


def pick(rng: Rng, items: list[bytes]) -> bytes:
    """Choose one."""
    return items[rng.integers(len(items))]


def midi_case(corpus: Corpus, folder: Path, rng: Rng) -> str:
    """Read a MIDI file that was changed, or written from the grammar; ask about some."""
    data = midi_song(rng) if rng.random() < 0.6 else pick(rng, corpus.midi)
    if rng.random() < 0.5:
        data = mutate_bytes(data, rng, pick(rng, corpus.midi))
    path = folder / "song.mid"
    path.write_bytes(data)
    midi = read_midi(path)
    notes = midi.notes
    if not (np.isfinite(notes["offset"]).all() and (notes["offset"] > notes["onset"]).all()):
        return "fault: notes without an end"
    if midi.title is not None and not midi.title.isprintable():
        return "fault: a title that is not printable"
    if rng.random() < 0.05:
        answer(corpus.identifier, path)
    return "read"


def answer(identifier: Identifier, path: Path) -> None:
    """Ask about a file; the answer must be JSON."""
    found = identifier.identify_file(path)
    json.dumps(found.to_dict(), allow_nan=False)


def audio_case(corpus: Corpus, folder: Path, rng: Rng) -> str:
    """Ask about a recording that was changed."""
    kind = list(CONTAINERS)[rng.integers(len(CONTAINERS))]
    others = list(corpus.audio.values())
    path = folder / f"sound.{kind}"
    path.write_bytes(mutate_bytes(corpus.audio[kind], rng, pick(rng, others)))
    answer(corpus.identifier, path)
    return "read"


def index_case(corpus: Corpus, folder: Path, rng: Rng) -> str:
    """Ask an index that was changed, mostly with hashes that are right again."""
    index = folder / "index"
    shutil.copytree(corpus.index, index)
    manifest = index / "manifest.json"
    data = next(index.glob("data-*"))
    if rng.random() < 0.3:
        manifest.write_bytes(mutate_text(manifest.read_text(), rng))
    else:
        files = sorted(data.iterdir())
        chosen = files[rng.integers(len(files))]
        harm_data(chosen, rng)
        if rng.random() < 0.85:
            told = json.loads(manifest.read_text())
            told["files"][chosen.name] = sha256(chosen.read_bytes()).hexdigest()
            manifest.write_text(json.dumps(told))
    if rng.random() < 0.2:
        (index / "checked.json").write_bytes(mutate_text('{"data-0": {"a": [1, 2, 3, 4]}}', rng))
    opened = LibraryIndex(index, corpus.model)
    for how in ("exact", "hnsw"):
        identifier = Identifier(corpus.model, opened, SearchOptions(search=how))
        answer(identifier, folder.parent / "asked.mid")
    verify_index(index)
    return "read"


def harm_data(path: Path, rng: Rng) -> None:
    """Change bytes of a file, beyond its header as well as in it, or rows of the table."""
    if path.suffix == ".sqlite" and rng.random() < 0.7:
        harm_table(path, rng)
    else:
        path.write_bytes(mutate_bytes(path.read_bytes(), rng, head=120))


def harm_table(path: Path, rng: Rng) -> None:
    """Set a value of the table to one that no row has, or put something else in its place."""
    import sqlite3

    values = [-1, 0, 2**40, 2**63 - 1, 1.5, 1e308, "x", "\x1b[31m", b"\xff\xfe", None, "9" * 99]
    columns = ["name", "title", "seconds", "digest", "first", "count", "first_note", "notes"]
    column, value = columns[rng.integers(8)], values[rng.integers(len(values))]
    endless = "WITH RECURSIVE t(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM t) SELECT * FROM t"
    with sqlite3.connect(path) as table:
        if rng.random() < 0.1:
            table.execute("DROP TABLE pieces")
            table.execute(f"CREATE VIEW pieces AS {endless}")
        else:
            row = int(rng.integers(1, 10))
            table.execute(f"UPDATE pieces SET {column} = ? WHERE rowid >= ?", (value, row))
    table.close()


def checkpoint_case(corpus: Corpus, folder: Path, rng: Rng) -> str:
    """Load a model that was changed in its header or elsewhere, and ask with it."""
    path = folder / "model.safetensors"
    data = corpus.weights.read_bytes()
    if rng.random() < 0.5:
        path.write_bytes(mutate_bytes(data, rng))
    else:
        path.write_bytes(_with_header(data, rng))
    model = load_checkpoint(path)
    describe_model(str(path))
    for embed, asked in ((mmid.embed_audio, "asked.wav"), (mmid.embed_midi, "asked.mid")):
        if not np.isfinite(embed(folder.parent / asked, model=model).vectors).all():
            return "fault: vectors that are no numbers"
    return "read"


def _with_header(data: bytes, rng: Rng) -> bytes:
    """Change what a checkpoint says of itself, as its author could."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    own = header["__metadata__"]
    own["mmid"] = mutate_text(own["mmid"], rng).decode("latin-1")
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def sidecar_case(corpus: Corpus, folder: Path, rng: Rng) -> str:
    """Write a sidecar where something else lies."""
    recording = folder / "take.wav"
    beside = folder / "take.wav.mmid.json"
    text = '{"mmid": "1", "model": "a", "index": "b", "answer": {"matches": [1, {"x": [2]}]}}'
    beside.write_bytes(mutate_text(text, rng))
    shutil.copy(folder.parent / "asked.wav", recording)
    found = Answered(corpus.identifier.identify_file(recording))
    Sidecars(Origin("a", "b")).take(found)
    json.loads(beside.read_text())
    return "read"


def registry_case(corpus: Corpus, folder: Path, rng: Rng) -> str:
    """List the models of a registry, and notes beside fetched ones, that were changed."""
    text = (registry.ASSETS / "registry.json").read_text()
    (folder / "registry.json").write_bytes(mutate_text(text, rng))
    fetched = folder / "cache/models/hub/me/tunes/main/a.safetensors"
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"x")
    note = '{"commit": "0", "sha256": "1"}'
    fetched.with_name("a.safetensors.json").write_bytes(mutate_text(note, rng))
    with (
        patch.object(registry, "ASSETS", folder),
        patch.dict("os.environ", {"MMID_CACHE": str(folder / "cache")}),
    ):
        list_models()
    return "read"


def pairs_case(corpus: Corpus, folder: Path, rng: Rng) -> str:
    """Read a list of pairs that was changed."""
    (folder / "a.mid").write_bytes(corpus.midi[0])
    text = b"id,audio,midi,piece\nx,a.wav,a.mid,p\n" + b"y,b.wav,a.mid,p\n" * 5
    (folder / "pairs.csv").write_bytes(mutate_bytes(text, rng, text))
    read_pairs(folder)
    return "read"


Case = Callable[[Corpus, Path, Rng], str]

CASES: dict[str, Case] = {
    "midi": midi_case,
    "audio": audio_case,
    "index": index_case,
    "checkpoint": checkpoint_case,
    "sidecar": sidecar_case,
    "registry": registry_case,
    "pairs": pairs_case,
}


def outcome(case: Case, corpus: Corpus, folder: Path, rng: Rng) -> str:
    """Do a case; tell how it ended."""
    try:
        return case(corpus, folder, rng)
    except MmidError as error:
        line = str(error)
        return "refused" if line and "\n" not in line else f"fault: no line: {line!r}"
