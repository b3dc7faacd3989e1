"""mmid from Python: open or build an index, query it with files and arrays, embed music.

Conventions: arrays of sound are floating-point samples, ``[n]`` or ``[channels, n]``, full scale 1,
and come with their sample rate, Hz. Times are in seconds, transpositions in semitones. Where
nothing is named, the index and the model are those that the command line would take.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from mmid.errors import AudioError, MidiError, MmidError, label
from mmid.identify.answer import Identification
from mmid.identify.identifier import Identifier
from mmid.identify.search_options import SearchOptions, keys_to_try
from mmid.index.build import BuildReport, update_index
from mmid.index.embedder import embed_whole
from mmid.index.folder import LibraryIndex
from mmid.index.protocol import Library, Store
from mmid.index.store import store_at
from mmid.index.update_plan import UpdateOptions
from mmid.model import loading
from mmid.model.checkpoint import Checkpoint
from mmid.model.embedding import Query, Sound, open_query
from mmid.model.encoders import pick_device
from mmid.music.audio import BLOCK, resample_audio
from mmid.music.formats import is_written
from mmid.music.grid import FeatureParams
from mmid.music.spectrogram import stream_spectrogram
from mmid.options import Kind, LibraryKind
from mmid.system.console import quiet

PathLike: TypeAlias = str | os.PathLike[str]
Model: TypeAlias = str | os.PathLike[str] | Checkpoint | None


class Embedding(NamedTuple):
    """Snippets of music in the space that recordings and scores share.

    Parameters
    ----------
    vectors : np.ndarray [n, 32] float32
        Unit vectors; the same music lies close together, by its cosine.
    times : np.ndarray [n] float64
        When each snippet, about two seconds long, begins.
    """

    vectors: np.ndarray
    times: np.ndarray


@dataclass(frozen=True)
class IndexedPiece:
    """A piece that an index holds.

    Parameters
    ----------
    name : str
        Path of the file relative to the library folder; of a tune in an ABC file, with its number.
    title : str or None
        The title in the file; None if it has none.
    seconds : float
        Length of the piece.
    digest : str
        SHA-256 of the file, hexadecimal.
    snippets : int
        Number of its snippets in the index.
    """

    name: str
    title: str | None
    seconds: float
    digest: str
    snippets: int

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as values that `json.dumps` takes."""
        return asdict(self)


def load_model(name: PathLike | None = None, device: str = "auto") -> Checkpoint:
    """Load a model, to pass it to several calls that take one.

    Parameters
    ----------
    name : str or path, optional
        Name of a model, ``hf://OWNER/REPO`` or a .safetensors file; by default the one that the
        environment variable ``MMID_MODEL`` names, else the packaged one.
    device : {"auto", "cpu", "cuda", "mps"}
        Where it computes; ``auto`` takes a GPU if there is one.

    Returns
    -------
    Checkpoint

    Raises
    ------
    ModelError
        If there is no such model, or its file is damaged.
    MmidError
        If there is no such device.
    """
    name = name or os.environ.get("MMID_MODEL")
    return loading.load_model(os.fspath(name) if name else None, pick_device(device))


def _loaded(model: Model, device: str = "auto") -> Checkpoint:
    return model if isinstance(model, Checkpoint) else load_model(model, device)


def _store(place: PathLike | None) -> Store:
    return store_at(place or os.environ.get("MMID_INDEX"))


class Index:
    """An index of a library, with the model that made it, ready for queries.

    Get one from `Index.open` or `Index.build`. ``len(index)`` is the number of its pieces. It does
    not change when the folder does: open it again to see a later build.

    Attributes
    ----------
    where : str
        The absolute path of its folder, or its address on Milvus.
    folder : Path or None
        The same path; None if the index is on Milvus.
    built : BuildReport or None
        What `Index.build` did; None if the index was only opened.
    """

    def __init__(self, index: Library, model: Checkpoint, built: BuildReport | None = None) -> None:
        self._index, self._model = index, model
        self.where, self.built = index.where, built
        self.folder = index.folder if isinstance(index, LibraryIndex) else None

    @classmethod
    def open(
        cls, folder: PathLike | None = None, model: Model = None, device: str = "auto"
    ) -> Index:
        """Open an index that `Index.build` or ``mmid build-index`` made.

        Parameters
        ----------
        folder : str or path, optional
            The folder of the index, or its address on Milvus; by default the one that the
            environment variable ``MMID_INDEX`` names, else the one in the user's data folder.
        model : str, path or Checkpoint, optional
            The model that made it, as `load_model` takes or returns it.
        device : {"auto", "cpu", "cuda", "mps"}
            Where a model that is not loaded yet computes.

        Returns
        -------
        Index

        Raises
        ------
        LibraryIndexError
            If the index is missing, damaged, or made by another model.
        ModelError
            If there is no such model, or its file is damaged.
        MmidError
            If there is no such device.
        """
        loaded = _loaded(model, device)
        return cls(_store(folder).open(loaded), loaded)

    @classmethod
    def build(
        cls,
        folder: PathLike | None,
        library: PathLike | Sequence[PathLike],
        model: Model = None,
        device: str = "auto",
        *,
        kind: LibraryKind = "auto",
        every: int | None = None,
        keep_missing: bool = False,
        replace: bool = False,
        jobs: int | None = 1,
        progress: Callable[[str, int, int], None] = quiet,
    ) -> Index:
        """Build an index, or update it after its library changed, as ``mmid build-index`` does.

        Parameters
        ----------
        folder : str or path or None
            The index; None is the one that `open` opens by default.
        library : str or path, or a sequence of them
            Folders of MIDI files or of recordings, or single files.
        model, device
            As `open` takes them.
        kind : {"auto", "midi", "recordings"}
            What to index. ``auto`` is what the index holds; for a new index, recordings if there
            are any and no MIDI file, else MIDI files and scores.
        every : int, optional
            Keep one in so many positions, which are 4 frames (0.19 s) apart; by default one in 2
            of scores, and all of recordings.
        keep_missing : bool
            Keep pieces whose files are gone.
        replace : bool
            Follow only `library`, and drop all other pieces. By default `library` is added to the
            folders that the index follows.
        jobs : int or None
            Worker processes; None for all cores. A script that takes more than one must do its
            work under ``if __name__ == "__main__":``, as workers import the script.
        progress : callable
            Called with ``(what, done, total)``: what is being done, and how much of it.

        Returns
        -------
        Index
            Its ``built`` says what was done, and which files could not be read.

        Raises
        ------
        LibraryIndexError
            If the folder holds something that is no index, if the index holds files of the other
            kind, or if another process is writing it.
        MmidError
            If a folder of the library is missing, or no file in it can be read.
        """
        loaded, store = _loaded(model, device), _store(folder)
        named = [library] if isinstance(library, (str, os.PathLike)) else library
        folders, options = list(map(Path, named)), UpdateOptions(every, keep_missing, replace)
        report = update_index(store, folders, loaded, kind, options, jobs=jobs, progress=progress)
        return cls(store.open(loaded), loaded, report)

    def __len__(self) -> int:
        return len(self._index)

    def __repr__(self) -> str:
        return f"<mmid.Index of {len(self)} {self.kind} in {label(self.where)}>"

    @property
    def kind(self) -> Kind:
        """What the index holds: ``midi`` or ``recordings``."""
        return self._index.kind

    @property
    def pieces(self) -> tuple[IndexedPiece, ...]:
        """The pieces that the index holds, in its own order."""
        return tuple(
            IndexedPiece(e.name, e.title, e.seconds, e.digest, e.count) for e in self._index.entries
        )

    def identify(
        self,
        music: PathLike | np.ndarray,
        sr: float | None = None,
        *,
        start: float = 0.0,
        duration: float | None = None,
        transpose: int | Literal["auto"] = "auto",
        top: int = SearchOptions.top,
        min_confidence: float = SearchOptions.min_confidence,
    ) -> Identification:
        """Name the piece that a recording is a performance of, or the recordings of a MIDI file.

        Parameters
        ----------
        music : str or path, or np.ndarray [n] or [channels, n]
            A recording or MIDI file, or samples.
        sr : float, optional
            Sample rate of an array, Hz; an array needs one, a file takes none.
        start, duration : float
            The span to use, seconds; by default all of it.
        transpose : int or "auto"
            How many semitones the recording is above the score; ``auto`` tries -12 to 12.
        top : int
            The most matches to return.
        min_confidence : float
            Confidence, 0 to 1, from which on the first match counts as found.

        Returns
        -------
        Identification
            The matches, the best first, and whether the first one counts as found.

        Raises
        ------
        AudioError, MidiError
            If the file cannot be read, or the array is not sound.
        MmidError
            If an argument is out of range.
        """
        if top < 1:
            raise MmidError(f"top {top}: give at least 1")
        if not 0 <= min_confidence <= 1:
            raise MmidError(f"min_confidence {min_confidence:g}: give 0 to 1")
        options = SearchOptions(keys=keys_to_try(transpose), top=top, min_confidence=min_confidence)
        identifier = Identifier(self._model, self._index, options)
        query = _query(music, sr, self._model, start, duration)
        return identifier.identify(query, "" if isinstance(music, np.ndarray) else os.fspath(music))


def _query(
    music: PathLike | np.ndarray,
    sr: float | None,
    model: Checkpoint,
    start: float = 0.0,
    duration: float | None = None,
) -> Query:
    """Return a span of a file or an array as a query."""
    params, device = model.encoders.config.features, model.encoders.device
    if not isinstance(music, np.ndarray):
        if sr is not None:
            raise MmidError(f"{label(music)}: a file has its own sample rate; leave sr out")
        return open_query(music, params, start, duration, device)
    samples = _span(music, sr, params, start, duration)
    blocks = (samples[first : first + BLOCK] for first in range(0, len(samples), BLOCK))
    return Sound(stream_spectrogram(blocks, params, device), params)


def _span(
    sound: np.ndarray,
    sr: float | None,
    params: FeatureParams,
    start: float,
    duration: float | None,
) -> np.ndarray:
    """Return a span of an array at the grid's rate."""
    if sr is None:
        raise AudioError("an array of sound: give its sample rate, sr")
    if not 0 <= start < math.inf or (duration is not None and not 0 < duration < math.inf):
        raise AudioError(f"start {start}, duration {duration}: give seconds, from 0 on and over 0")
    samples = resample_audio(sound, sr, params.sample_rate)
    first = round(start * params.sample_rate)
    if first >= len(samples):
        raise AudioError(f"start {start:g} s is past the end of the sound")
    length = None if duration is None else first + max(1, round(duration * params.sample_rate))
    return samples[first:length]


def embed_audio(
    music: PathLike | np.ndarray,
    sr: float | None = None,
    model: Model = None,
    device: str = "auto",
) -> Embedding:
    """Embed a recording in snippets of about two seconds, four frames (0.19 s) apart.

    Snippets in which no note begins, or (with a model of spectrograms) nothing sounds, are left
    out.

    Parameters
    ----------
    music : str or path, or np.ndarray [n] or [channels, n]
        A recording, or samples.
    sr : float, optional
        Sample rate of an array, Hz; an array needs one, a file takes none.
    model : str, path or Checkpoint, optional
        As `load_model` takes or returns it.
    device : {"auto", "cpu", "cuda", "mps"}
        Where a model that is not loaded yet computes.

    Returns
    -------
    Embedding

    Raises
    ------
    AudioError
        If the recording cannot be read, or the array is not sound.
    ModelError
        If there is no such model, or its file is damaged.
    MmidError
        If a file is given with a sample rate, or there is no such device.
    """
    loaded = _loaded(model, device)
    if not isinstance(music, np.ndarray) and is_written(music):
        raise AudioError(f"{label(music)}: a MIDI file; embed_midi embeds those")
    return _embedded(_query(music, sr, loaded), loaded)


def embed_midi(path: PathLike, model: Model = None, device: str = "auto") -> Embedding:
    """Embed a MIDI file or a score in snippets of about two seconds, four frames (0.19 s) apart.

    Snippets in which no note begins are left out.

    Parameters
    ----------
    path : str or path
        A MIDI file or a score.
    model, device
        As `embed_audio` takes them.

    Returns
    -------
    Embedding

    Raises
    ------
    MidiError
        If the file cannot be read.
    ModelError
        If there is no such model, or its file is damaged.
    MmidError
        If there is no such device.
    """
    if not is_written(path):
        raise MidiError(f"{label(path)}: not named as a MIDI file; embed_audio embeds recordings")
    loaded = _loaded(model, device)
    return _embedded(_query(path, None, loaded), loaded)


def _embedded(query: Query, model: Checkpoint) -> Embedding:
    vectors, positions = embed_whole(query, model, every=1)
    rate = model.encoders.config.features.frame_rate
    return Embedding(vectors, positions / rate)
