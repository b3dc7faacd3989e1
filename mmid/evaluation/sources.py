"""Music whose match is known, to query with: recordings with their scores, renderings, scores.

Conventions: audio is mono float32 at the grid's rate, and positions in scores too are counted in
its samples; files are known by their SHA-256.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TypeAlias, cast, get_args

import numpy as np
import torch

from mmid.errors import AudioError, MidiError, MmidError, label
from mmid.evaluation.degradations import degrade_samples
from mmid.evaluation.forms import reshaped
from mmid.evaluation.score_position import Reference
from mmid.model.embedding import Query, Score, Sound
from mmid.music.audio import read_audio
from mmid.music.duplicates import group_duplicates, split_library
from mmid.music.grid import FeatureParams
from mmid.music.library import Piece, read_library
from mmid.music.midi import Midi, read_midi
from mmid.music.notes import clipped, last_offset, shifted, sounding, sped_up, transposed_within
from mmid.music.pairs import PAIRS_NAME, Pair, lose_row, read_pairs
from mmid.music.performance import Recipe, performed
from mmid.music.spectrogram import spectrogram
from mmid.music.synthesizer import Synthesizer, find_soundfont
from mmid.options import Damage, Degradation, Direction, Form, Kind
from mmid.system.files import file_digest

INDEX_KIND: dict[Direction, Kind] = {"recordings": "midi", "scores": "recordings"}
"""What the index must hold."""


def held_out(library: Path, side: str, seed: int, jobs: int | None = None) -> list[Piece]:
    """Read a library and return one side of its split; ``all`` is everything."""
    pieces, _ = read_library([library], jobs=jobs)
    return pieces if side == "all" else split_library(pieces, seed)[side]


@dataclass(frozen=True, eq=False)
class Source(ABC):
    """A recording or a score whose match is known.

    Parameters
    ----------
    name : str
    right : frozenset of str
        SHA-256 of the MIDI files or recordings that hold its music.
    kind : str
        Of music, where the list of pairs says it.
    """

    name: str
    right: frozenset[str]
    kind: str = field(default="", kw_only=True)

    @abstractmethod
    def size(self, params: FeatureParams) -> int:
        """Return its length, samples."""

    @abstractmethod
    def clip(self, first: int, count: int, params: FeatureParams) -> Query:
        """Return a span of it as a query, given in samples."""

    def span(self, start: float, end: float) -> tuple[float, float] | None:
        """Return where in its match a span of it begins and ends, seconds, where that is known."""
        return None

    def sound(self, first: int, count: int) -> np.ndarray:
        """Return the samples of a span of it.

        Raises
        ------
        MmidError
            If it is a score.
        """
        raise MmidError(f"{self.name}: a score makes no sound; baselines take recordings only")


class SoundingSource(Source):
    """A source of sound; a clip of it is levelled by itself."""

    def clip(self, first: int, count: int, params: FeatureParams) -> Query:
        """Return a span of it as a query, given in samples."""
        return Sound(spectrogram(torch.from_numpy(self.sound(first, count)), params), params)


@dataclass(frozen=True, eq=False)
class RecordedSource(SoundingSource):
    """A recording whose scores are known.

    Parameters
    ----------
    name, right, kind
        As of every `Source`.
    samples : np.ndarray [n] float32
        At the grid's rate.
    tempo_ratio : float or None
        Its speed against the score where it is constant and known.
    """

    samples: np.ndarray
    tempo_ratio: float | None = None

    def size(self, params: FeatureParams) -> int:
        """Return its length, samples."""
        return len(self.samples)

    def span(self, start: float, end: float) -> tuple[float, float] | None:
        """Return where in the score a span of it begins and ends, if its tempo is known."""
        ratio = self.tempo_ratio
        return None if ratio is None else (start * ratio, end * ratio)

    def sound(self, first: int, count: int) -> np.ndarray:
        """Return the samples of a span of it."""
        return self.samples[first : first + count]


@dataclass(frozen=True, eq=False)
class PerformedSource(SoundingSource):
    """A performance written as MIDI, of which only the clips queried are rendered.

    Parameters
    ----------
    name, right, kind
        As of every `Source`.
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        Of the performance, at the speed and in the key to render.
    synthesizer : Synthesizer
    reference : callable
        Gives the `Reference` of its positions in the score, which is not needed of every one.
    """

    notes: np.ndarray
    synthesizer: Synthesizer
    reference: Callable[[], Reference]

    @cached_property
    def _reference(self) -> Reference:
        return self.reference()

    def span(self, start: float, end: float) -> tuple[float, float] | None:
        """Return where in the score a span of it begins and ends, where its notes say."""
        return self._reference.span(start, end)

    def size(self, params: FeatureParams) -> int:
        """Return its length, samples."""
        return int(last_offset(self.notes) * params.sample_rate)

    def sound(self, first: int, count: int) -> np.ndarray:
        """Render a span of it, and the notes that ring on into it."""
        rate = self.synthesizer.sample_rate
        begin, end = first / rate - RINGING, (first + count) / rate
        notes = clipped(shifted(sounding(self.notes, begin, end), -begin), 0)
        skipped = int(RINGING * rate)
        rendered = self.synthesizer.render(notes)[skipped : skipped + count]
        return np.pad(rendered, (0, count - len(rendered)))


RINGING = 3.0
"""Seconds before a clip of which the notes are rendered, too."""


@dataclass(frozen=True, eq=False)
class DegradedSource(SoundingSource):
    """A source whose sound is degraded before it is queried.

    Parameters
    ----------
    name, right, kind
        As of every `Source`.
    of : Source
    how : Degradation
    params : FeatureParams
        The grid's.
    """

    of: Source
    how: Degradation
    params: FeatureParams

    def span(self, start: float, end: float) -> tuple[float, float] | None:
        """Return where in its match a span of it begins and ends; of another form that is open."""
        return None if self.how in get_args(Form) else self.of.span(start, end)

    def size(self, params: FeatureParams) -> int:
        """Return its length, samples."""
        return self.of.size(params)

    def sound(self, first: int, count: int) -> np.ndarray:
        """Return the samples of a span of it."""
        rate = self.params.sample_rate
        if self.how in get_args(Form):
            how = cast(Form, self.how)
            return reshaped(self.of.sound, first, count, self.of.size(self.params), how, rate)
        return degrade_samples(self.of.sound(first, count), cast(Damage, self.how), rate, first)


@dataclass(frozen=True, eq=False)
class ScoreSource(Source):
    """A score whose recordings are known.

    Parameters
    ----------
    name, right, kind
        As of every `Source`.
    midi : Midi
    """

    midi: Midi

    def size(self, params: FeatureParams) -> int:
        """Return its length, samples."""
        return int(self.midi.seconds * params.sample_rate)

    def clip(self, first: int, count: int, params: FeatureParams) -> Query:
        """Return a span of it as a query, given in samples."""
        score = Score(self.midi.notes, self.midi.seconds, params)
        return score.span(first / params.sample_rate, count / params.sample_rate)


def rendered_sources(
    pieces: Sequence[Piece],
    everything: Sequence[Piece],
    soundfont: Path,
    params: FeatureParams,
    *,
    tempo: tuple[float, float] = (1.0, 1.0),
    seed: int = 0,
) -> Iterator[RecordedSource]:
    """Render each piece at a tempo drawn from a range, log-uniformly (benchmark B2).

    Parameters
    ----------
    pieces : sequence of Piece
    everything : sequence of Piece
        Their library: other files of the same music in it are right answers too.
    soundfont : Path
    params : FeatureParams
    tempo : tuple of float
        Slowest and fastest speed against the score.
    seed : int
    """
    right = _same_music(everything)
    rng = np.random.default_rng(seed)
    with Synthesizer(soundfont, params.sample_rate) as synthesizer:
        for piece in pieces:
            ratio = float(np.exp(rng.uniform(*np.log(tempo))))
            _, played = performed(piece.midi.notes, Recipe(str(soundfont), tempo=ratio, seed=seed))
            samples = synthesizer.render(played)
            yield RecordedSource(piece.name, right[piece.digest], samples, ratio)


def _same_music(pieces: Sequence[Piece]) -> dict[str, frozenset[str]]:
    labels = group_duplicates([piece.midi.notes for piece in pieces])
    members: dict[int, set[str]] = {}
    for piece, group in zip(pieces, labels, strict=True):
        members.setdefault(int(group), set()).add(piece.digest)
    return {p.digest: frozenset(members[int(x)]) for p, x in zip(pieces, labels, strict=True)}


def _right_scores(pairs: Sequence[Pair]) -> list[frozenset[str]]:
    """Return the SHA-256 of the scores that are right for each pair."""
    same = _same_music([pair.score for pair in pairs])
    pieces: dict[str, frozenset[str]] = {}
    for pair in pairs:
        pieces[pair.piece] = pieces.get(pair.piece, frozenset()) | same[pair.score.digest]
    return [pieces[pair.piece] for pair in pairs]


LeaveOut: TypeAlias = Callable[[str], None] | None
"""Gets a line on each pair that cannot be used; without one, the first such is raised."""


def recorded_sources(
    pairs: Sequence[Pair], params: FeatureParams, leave_out: LeaveOut = None
) -> Iterator[RecordedSource]:
    """Read the recordings of pairs, to query for their scores.

    Raises
    ------
    AudioError
        If one cannot be read, and there is no `leave_out`.
    """
    for pair, right in zip(pairs, _right_scores(pairs), strict=True):
        try:
            samples = read_audio(pair.audio, params.sample_rate)
        except AudioError as error:
            lose_row(pair.name, error, leave_out)
        else:
            yield RecordedSource(pair.name, right, samples, kind=pair.kind)


def performed_sources(
    pairs: Sequence[Pair],
    soundfont: Path,
    params: FeatureParams,
    *,
    tempo: tuple[float, float] = (1.0, 1.0),
    semitones: int = 0,
    seed: int = 0,
    leave_out: LeaveOut = None,
) -> Iterator[PerformedSource]:
    """Read the performances that pairs have as MIDI, to be rendered (benchmark B3).

    Parameters
    ----------
    pairs : sequence of Pair
        With MIDI files for recordings.
    soundfont : Path
    params : FeatureParams
    tempo : tuple of float
        Slowest and fastest speed against the performance, drawn log-uniformly.
    semitones : int
        How much higher to play.
    seed : int
    leave_out : callable, optional
        As `LeaveOut`.

    Raises
    ------
    MidiError
        If one cannot be read, and there is no `leave_out`.
    """
    rng = np.random.default_rng(seed)
    synthesizer = Synthesizer(soundfont, params.sample_rate)  # sources outlive this generator
    for pair, right in zip(pairs, _right_scores(pairs), strict=True):
        ratio = float(np.exp(rng.uniform(*np.log(tempo))))
        try:
            notes = read_midi(pair.audio).notes
        except MidiError as error:
            lose_row(pair.name, error, leave_out)
            continue
        notes = transposed_within(sped_up(_from_its_first_note(notes), ratio), semitones)
        written = pair.score.midi.notes
        reference = partial(Reference, notes, written, params, semitones)
        made = notes, synthesizer, reference
        yield PerformedSource(pair.name, right, *made, kind=pair.kind)


def _from_its_first_note(notes: np.ndarray) -> np.ndarray:
    """Begin a performance with its first note, as one cut out of a longer recording does not."""
    return shifted(notes, -float(notes["onset"].min()))


def score_sources(pairs: Sequence[Pair], leave_out: LeaveOut = None) -> list[ScoreSource]:
    """Return the scores of pairs, each once, to query for their recordings.

    Raises
    ------
    MmidError
        If a recording is missing, and there is no `leave_out`.
    """
    recordings = []
    for pair in pairs:
        try:
            recordings.append((file_digest(pair.audio), pair.score.digest))
        except OSError as error:
            fault = MmidError(f"{label(error.filename)}: {error.strerror}")
            lose_row(pair.name, fault, leave_out)
    right: dict[str, frozenset[str]] = {}
    for pair, scores in zip(pairs, _right_scores(pairs), strict=True):
        found = frozenset(recording for recording, score in recordings if score in scores)
        right[pair.score.digest] = right.get(pair.score.digest, frozenset()) | found
    first = {pair.score.digest: pair for pair in reversed(pairs)}
    return [_score_source(first[digest], found) for digest, found in right.items() if found]


def _score_source(pair: Pair, right: frozenset[str]) -> ScoreSource:
    return ScoreSource(pair.score.name, right, pair.score.midi, kind=pair.kind)


def open_sources(
    folder: Path,
    soundfont: str | None,
    params: FeatureParams,
    tempo: tuple[float, float],
    side: str,
    seed: int,
    jobs: int | None = None,
    *,
    direction: Direction = "recordings",
    semitones: int = 0,
    degradation: Degradation | None = None,
    leave_out: LeaveOut = None,
) -> tuple[int, Iterator[Source]]:
    """Return the queries that a folder holds.

    These are the recordings that its ``pairs.csv`` lists or, with a soundfont, renderings of the
    performances in MIDI that it lists; of a folder without the list, renderings of its MIDI files.
    In the other direction they are the scores that the list pairs with recordings. What of the list
    cannot be read is left out if there is a `leave_out` to report it to.

    Returns
    -------
    int, iterator of Source
        How many there are, and each as it is read or rendered.

    Raises
    ------
    MmidError
        If the list is needed but missing or unreadable, or a soundfont is given for scores.
    """
    if degradation is not None:
        count, smooth = open_sources(
            *(folder, soundfont, params, tempo, side, seed, jobs),
            direction=direction,
            semitones=semitones,
            leave_out=leave_out,
        )
        return count, (
            DegradedSource(s.name, s.right, s, degradation, params, kind=s.kind) for s in smooth
        )
    if soundfont is not None and direction == "scores":
        raise MmidError("scores are queried as they are written: leave out the soundfont")
    if soundfont is not None and not (folder / PAIRS_NAME).is_file():
        everything = held_out(folder, "all", seed, jobs)
        pieces = everything if side == "all" else split_library(everything, seed)[side]
        font = find_soundfont(soundfont)
        rendered = rendered_sources(pieces, everything, font, params, tempo=tempo, seed=seed)
        return len(pieces), rendered
    pairs = read_pairs(folder, leave_out)
    if soundfont is not None:
        font, how = find_soundfont(soundfont), {"semitones": semitones, "seed": seed}
        played = performed_sources(pairs, font, params, tempo=tempo, leave_out=leave_out, **how)
        return len(pairs), _some(played, folder)
    if direction == "recordings":
        return len(pairs), _some(recorded_sources(pairs, params, leave_out), folder)
    scores = score_sources(pairs, leave_out)
    return len(scores), _some(scores, folder)


def _some(sources: Iterable[Source], folder: Path) -> Iterator[Source]:
    """Yield sources; raise where there is none."""
    found = False
    for source in sources:
        found = True
        yield source
    if not found:
        raise MmidError(f"{label(folder / PAIRS_NAME)}: no row of it can be used")
