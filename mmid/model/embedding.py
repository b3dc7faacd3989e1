"""Music to embed: a recording's sound or a score's notes, drawn at any tempo and queried alike.

Conventions: times in seconds. A tempo ratio is this music's speed against what it is compared with:
at ratio 2 it is drawn twice as long, as slow as the other. Frames are those of
`mmid.music.spectrogram`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from mmid.errors import MidiError, MmidError, label
from mmid.model.batching import in_parts
from mmid.model.drawing import (
    ONE_KEY,
    PHASES,
    Drawing,
    Drawn,
    Effort,
    excerpts_of,
    moved_by_semitones,
)
from mmid.model.encoders import Encoders
from mmid.model.harmonic import melody_on_roll_grid, on_roll_grid
from mmid.model.pathways import PathwayConfig
from mmid.model.transcriber import LOWEST, PITCHES, highest, transcribed_rolls
from mmid.music.formats import is_written
from mmid.music.grid import DEFAULT, FeatureParams
from mmid.music.library import QUIET, Piece, Recording
from mmid.music.log_frequency import BINS_PER_SEMITONE, raise_bins, tuning
from mmid.music.notes import last_offset, shifted, sounding, stretched, transposed
from mmid.music.piano_roll import piano_roll
from mmid.music.scores.reading import read_music
from mmid.music.spectrogram import (
    frame_count,
    log_compress,
    log_expand,
    recording_spectrogram,
    resample_frames,
    shift_bands,
)
from mmid.options import Kind
from mmid.system.console import stage, warn

TUNINGS = (0, -20, 20, -40, 40)
"""Tunings tried, cents above concert pitch; the transcriber bears 15 more either way."""

FAR_TUNED = 28
"""From so many cents on, a fine spectrogram is moved by a bin; the transcriber bears less."""

TUNED_SECONDS = 10.0
"""The tuning is estimated from so much of the middle of a recording."""

CERTAIN = 6.0
"""Log-odds of what is written."""


class Query(Protocol):
    """What can be queried, and what an index is made of."""

    kind: ClassVar[Kind]

    @property
    def seconds(self) -> float:
        """Length, seconds."""

    @property
    def tuning(self) -> int:
        """Cents above concert pitch."""

    def pathway(self, encoders: Encoders) -> tuple[nn.Module, PathwayConfig]:
        """Return the encoder that takes its drawings, and its shape."""

    def at(self, tempo_ratio: float, device: torch.device | str = "cpu") -> Drawing:
        """Draw it at a tempo."""

    def transcribed(self, encoders: Encoders) -> Query:
        """Return what a model makes of it once and for all."""

    @property
    def log_odds(self) -> Tensor | None:
        """Those of its notes, as of `Transcribed`, where they are known."""

    @property
    def melody(self) -> Tensor | None:
        """The same of its melody's notes."""


@dataclass(frozen=True, eq=False)
class Sound:
    """A recording, or a span of one.

    Parameters
    ----------
    spectrogram : Tensor [bands, frames] float32
        From `mmid.music.spectrogram`.
    params : FeatureParams
        Its grid.
    """

    spectrogram: Tensor
    params: FeatureParams = DEFAULT
    tuning: ClassVar[int] = 0
    kind: ClassVar[Kind] = "recordings"

    @property
    def seconds(self) -> float:
        """Length, seconds."""
        return self.spectrogram.shape[1] / self.params.frame_rate

    def pathway(self, encoders: Encoders) -> tuple[nn.Module, PathwayConfig]:
        """Return the encoder of spectrograms, and its shape."""
        return encoders.audio, encoders.config.audio

    def at(self, tempo_ratio: float, device: torch.device | str = "cpu") -> Drawing:
        """Read its frames at another step; a frame is active if it is louder than `QUIET`."""
        played = self.spectrogram[None].to(device)
        frames = max(int((played.shape[2] - 1) * tempo_ratio) + 1, self.params.snippet)
        origin = torch.zeros(1, device=device)
        bands = resample_frames(played, origin, origin + 1 / tempo_ratio, frames)
        active = (bands[0].amax(0) > QUIET).cpu().numpy()
        return Drawing(frames, self.params.frame_rate, active, lambda i, n: bands[..., i : i + n])

    def transcribed(self, encoders: Encoders) -> Sound | Transcribed:
        """Return the notes a model transcribes, in its own tuning, if it is one that does."""
        if encoders.transcriber is None:
            return self
        if self.params.scale == "fine":
            return self._finely_transcribed(encoders)
        cents = self._tuning(encoders)
        bands = self._shifted(self.spectrogram, -cents) if cents else self.spectrogram
        return Transcribed(_transcribed(bands[None], encoders)[0], self.params, cents)

    def _finely_transcribed(self, encoders: Encoders) -> Transcribed:
        cents = round(tuning(log_expand(self.spectrogram, self.params)))
        bins = round(cents / 100 * BINS_PER_SEMITONE) if abs(cents) >= FAR_TUNED else 0
        bands = raise_bins(self.spectrogram, -bins)
        with torch.inference_mode(), encoders.autocast():
            outputs = encoders.transcribe_finely(bands[None, None].to(encoders.device))[0]
        melody = melody_on_roll_grid(outputs)
        return Transcribed(on_roll_grid(outputs), self.params, cents, melody)

    def _tuning(self, encoders: Encoders) -> int:
        """Return the tuning in which the model finds most notes, cents above concert pitch."""
        frames = int(TUNED_SECONDS * self.params.frame_rate)
        first = max(0, (self.spectrogram.shape[1] - frames) // 2)
        excerpt = self.spectrogram[:, first : first + frames]
        tried = torch.stack([self._shifted(excerpt, -cents) for cents in TUNINGS])
        active = _transcribed(tried, encoders).clamp_min(0).sum((1, 2, 3))
        return TUNINGS[int(active.argmax())]

    def _shifted(self, bands: Tensor, cents: float) -> Tensor:
        linear = log_expand(bands, self.params)[None]
        return log_compress(shift_bands(linear, cents / 100, self.params)[0], self.params)

    @property
    def log_odds(self) -> None:
        """Nothing is known of its notes."""

    @property
    def melody(self) -> None:
        """Nor of its melody's."""


def _transcribed(spectrograms: Tensor, encoders: Encoders) -> Tensor:
    with torch.inference_mode(), encoders.autocast():
        log_odds = encoders.transcribe(spectrograms[:, None].to(encoders.device))
    assert log_odds is not None
    return log_odds


ONSET_PROBABILITY = 0.2
"""Probability of an onset from which a frame of a recording counts as active."""


@dataclass(frozen=True, eq=False)
class Transcribed:
    """The notes transcribed from a recording.

    Parameters
    ----------
    log_odds : Tensor [2, PITCHES, frames] float32
        As `mmid.model.transcriber` gives them.
    params : FeatureParams
        Their grid.
    tuning : int
        Of the recording, cents above concert pitch.
    melody : Tensor [2, PITCHES, frames] float32
        Log-odds of the melody's notes alone: by default those of the highest.
    """

    log_odds: Tensor
    params: FeatureParams = DEFAULT
    tuning: int = 0
    melody: Tensor | None = None
    kind: ClassVar[Kind] = "recordings"

    def __post_init__(self) -> None:
        if self.melody is None:
            object.__setattr__(self, "melody", highest(self.log_odds))

    @property
    def seconds(self) -> float:
        """Length, seconds."""
        return self.log_odds.shape[-1] / self.params.frame_rate

    def transcribed(self, encoders: Encoders) -> Transcribed:
        """Return itself."""
        return self

    def pathway(self, encoders: Encoders) -> tuple[nn.Module, PathwayConfig]:
        """Return the encoder of transcribed notes, and its shape."""
        return encoders.audio, encoders.config.audio

    def at(self, tempo_ratio: float, device: torch.device | str = "cpu") -> Drawing:
        """Read its frames at another step; a frame is active if a note may begin in it."""
        played = transcribed_rolls(self.log_odds, self.params.pitches).to(device)
        frames = max(int((played.shape[-1] - 1) * tempo_ratio) + 1, self.params.snippet)
        origin, rows = torch.zeros(1, device=device), played.flatten(0, 1)[None]
        read = resample_frames(rows, origin, origin + 1 / tempo_ratio, frames)
        rolls = read.view(*played.shape[:2], frames)
        active = (rolls[1].amax(0) > ONSET_PROBABILITY).cpu().numpy()
        return Drawing(frames, self.params.frame_rate, active, lambda i, n: rolls[..., i : i + n])


@dataclass(frozen=True, eq=False)
class Score:
    """The notes of a MIDI file, or of a span of it.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        Times in seconds; a note may have begun before the span.
    seconds : float
        Length.
    params : FeatureParams
        The grid to draw on.
    """

    notes: np.ndarray
    seconds: float
    params: FeatureParams = DEFAULT
    tuning: ClassVar[int] = 0
    kind: ClassVar[Kind] = "midi"

    def span(self, start: float, seconds: float) -> Score:
        """Return what sounds from a time on for so long, seconds; cut where the score ends."""
        end = min(self.seconds, start + seconds)
        notes = shifted(sounding(self.notes, start, end), -start)
        return replace(self, notes=notes, seconds=end - start)

    def pathway(self, encoders: Encoders) -> tuple[nn.Module, PathwayConfig]:
        """Return the encoder of piano rolls, and its shape."""
        return encoders.roll, encoders.config.roll

    def at(self, tempo_ratio: float, device: torch.device | str = "cpu") -> Drawing:
        """Draw its notes with their times scaled; a frame is active if a note begins in it."""
        notes = stretched(self.notes, tempo_ratio)
        rate = self.params.roll_frame_rate(last_offset(notes))
        frames = max(int(self.seconds * tempo_ratio * rate) + 1, self.params.snippet)
        begins = np.floor(notes["onset"] * rate).astype(int)
        active = np.zeros(frames, bool)
        active[begins[(begins >= 0) & (begins < frames)]] = True

        def draw(first: int, count: int) -> Tensor:
            return piano_roll(notes, count, self.params, first=first, device=device)

        return Drawing(frames, rate, active, draw)

    def transcribed(self, encoders: Encoders) -> Score:
        """Return itself."""
        return self

    def transposed(self, semitones: int) -> Score:
        """Move its notes by so many semitones; those that leave the roll are dropped."""
        return replace(self, notes=transposed(self.notes, semitones, self.params.pitches))

    @property
    def log_odds(self) -> Tensor:
        """Those of its notes: certain of every one that is written, and of no other."""
        plain = replace(self.params, onsets=True, unstacked=False, roll_rate="exact")
        roll = piano_roll(self.notes, frame_count(self.seconds, plain), plain)
        return (2 * roll[:, LOWEST : LOWEST + PITCHES] - 1) * CERTAIN

    @property
    def melody(self) -> Tensor:
        """Those of its highest notes."""
        return highest(self.log_odds)


def sounding_seconds(query: Query, frame_rate: float) -> float:
    """Return for how long a note is likelier to sound than not, or anything where none is known."""
    if isinstance(query, Sound):
        sounding = query.spectrogram.amax(0) > QUIET
    else:
        assert query.log_odds is not None
        sounding = query.log_odds[0].amax(0) > 0
    return int(sounding.sum()) / frame_rate


def as_query(item: Piece | Recording, params: FeatureParams) -> Query:
    """Return what a file of a library holds as something to embed."""
    if isinstance(item, Piece):
        return Score(item.midi.notes, item.midi.seconds, params)
    return Sound(torch.from_numpy(item.spectrogram), params)


@stage("read a query")
def open_query(
    path: str | os.PathLike[str],
    params: FeatureParams,
    start: float = 0.0,
    duration: float | None = None,
    device: torch.device | str = "cpu",
) -> Query:
    """Read a MIDI file or a score, by its suffix, or else a recording; or a span of it.

    Parameters
    ----------
    path : path
    params : FeatureParams
        The model's grid.
    start, duration : float
        The span, seconds; to the end by default.

    Raises
    ------
    AudioError
        If the recording cannot be decoded.
    MidiError
        If the MIDI file cannot be read.
    MmidError
        If the file holds nothing in the span.
    """
    if not is_written(path):
        bands = recording_spectrogram(path, params, start=start, duration=duration, device=device)
        return Sound(bands, params)
    midi = read_music(path)
    if midi.damage:
        warn(f"{label(path)}: {midi.damage}")
    length = midi.seconds if duration is None else duration
    if not (0 <= start < midi.seconds and length > 0):
        raise MidiError(f"{label(path)}: no music in the span given, it lasts {midi.seconds:.1f} s")
    return Score(midi.notes, midi.seconds, params).span(start, length)


def draw_query(
    query: Query, encoders: Encoders, tempo_ratio: float = 1.0, effort: Effort = ONE_KEY
) -> Drawn:
    """Draw music as if it were played at the library's speed.

    Parameters
    ----------
    query : Query
    encoders : Encoders
    tempo_ratio : float
        The query's assumed speed against the library.
    effort : Effort

    Returns
    -------
    Drawn
        With the snippets that have something to recognise in them.
    """
    snippet = encoders.config.features.snippet
    drawing, stride = query.at(tempo_ratio, encoders.device), query.pathway(encoders)[1].stride
    firsts, length = excerpts_of(drawing.frames, drawing.rate, effort.seconds)
    dense = drawing.frames <= effort.dense_seconds * drawing.rate
    phases = np.arange(0, stride, max(1, stride // (PHASES if dense else 1)))
    begins = np.add.outer(phases, np.arange(0, length, stride))
    positions = np.sort(np.add.outer(firsts, begins[begins <= length - snippet]).ravel())
    kept = positions[drawing.has_content(positions, snippet)]
    return Drawn(drawing, tempo_ratio, firsts, length, phases, kept)


@torch.inference_mode()
def embed_drawn(
    query: Query, drawn: Drawn, encoders: Encoders, keys: Sequence[int] = (0,)
) -> tuple[np.ndarray, np.ndarray]:
    """Embed what is kept of music drawn at a tempo, as if it were played in the library's key.

    Parameters
    ----------
    query : Query
    drawn : Drawn
        As `draw_query` drew it.
    encoders : Encoders
    keys : sequence of int
        The query's assumed transpositions against the library, semitones.

    Returns
    -------
    vectors : np.ndarray [keys, n, embedding] float32
    frames : np.ndarray [n] float64
        Where each snippet begins, in frames of the grid and at the query's own speed.

    Raises
    ------
    MmidError
        If other keys are wanted, of sound whose notes are not known.
    """
    if any(keys) and isinstance(query, Sound):
        raise MmidError("this model does not transcribe notes, and cannot look for other keys")
    pathway, shape = query.pathway(encoders)
    drawing, length, phases = drawn.drawing, drawn.length, drawn.phases
    scale = encoders.config.features.frame_rate / drawing.rate / drawn.tempo_ratio
    if not len(drawn):
        return np.zeros((len(keys), 0, shape.embedding), np.float32), drawn.positions * scale
    excerpts = torch.stack([drawing.draw(first, length) for first in drawn.firsts])
    padded = nn.functional.pad(excerpts, (0, int(phases[-1])))
    phased = torch.stack([padded[..., phase : phase + length] for phase in phases])
    keyed = torch.stack([moved_by_semitones(phased, -key) for key in keys])
    rows = keyed.flatten(0, 2)
    with encoders.autocast():
        parts = in_parts(lambda first, count: pathway(rows[first : first + count]).cpu(), len(rows))
    flat = torch.cat(parts).numpy()
    embedded = flat.reshape(len(keys), -1, flat.shape[-1])
    begins = np.add.outer(phases, drawn.firsts)[..., None] + np.arange(flat.shape[1]) * shape.stride
    order = np.argsort(begins, axis=None, kind="stable")
    kept = order[np.searchsorted(begins.ravel()[order], drawn.positions)]
    return embedded[:, kept], drawn.positions * scale


def embed_query(
    query: Query,
    encoders: Encoders,
    tempo_ratio: float = 1.0,
    effort: Effort = ONE_KEY,
    keys: Sequence[int] = (0,),
) -> tuple[np.ndarray, np.ndarray]:
    """Draw and embed music, as `draw_query` and `embed_drawn` do."""
    return embed_drawn(query, draw_query(query, encoders, tempo_ratio, effort), encoders, keys)
