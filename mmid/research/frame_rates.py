"""How well spectrograms and piano rolls of the same songs fit, at several roll frame rates.

The 2020 report gave its piano rolls a frame rate of their own, fixed or fitted to the length of the
song, and showed by how many frames roll and spectrogram differ in length. Its "sampling period of
21.43 to 23.43 ms" makes sense only as frame rates in Hz.

Conventions: a song ends with its last note; differences and lags are in frames. A difference is the
spectrogram's length less the roll's. A lag is how much later the last onset lies in the roll than
in the spectrogram: the sound that rings on after the last note is length, but no lag.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmid.errors import MmidError
from mmid.music.grid import DEFAULT, FeatureParams
from mmid.music.pairs import Pair
from mmid.music.piano_roll import piano_roll
from mmid.output.figures import Panel, Series, save_figure
from mmid.research.embedding_space import aligned_spectrogram
from mmid.system.console import ProgressCallback, quiet

FIXED_RATES = (21.43, 23.43)
"""The two ends of the report's range, Hz."""

ADAPTIVE = FeatureParams(roll_rate="adaptive")

LAG_SECONDS = 10.0
"""How much of the end of a song is searched for its lag."""

LINEAR = 10.0
"""Frames up to which the figure's scale is linear."""

MOST_LAG = 40
"""Lags looked for in the sound, frames to either side."""


def rate_names() -> tuple[str, ...]:
    """Return the names of the roll frame rates compared, the exact grid's last."""
    fixed = (f"fixed {rate:g} Hz" for rate in FIXED_RATES)
    return (*fixed, "adaptive", f"exact {DEFAULT.frame_rate:.3f} Hz")


def roll_rates(seconds: float) -> tuple[float, ...]:
    """Return the roll frame rates compared, Hz, for a song that lasts so long; see `rate_names`."""
    return (*FIXED_RATES, ADAPTIVE.roll_frame_rate(seconds), DEFAULT.roll_frame_rate(seconds))


@dataclass(frozen=True)
class SongLengths:
    """One song at every rate.

    Parameters
    ----------
    name : str
    seconds : float
        End of the last note.
    frames : int
        Of the spectrogram.
    differences : tuple of int
        Length of the spectrogram less that of the roll, one a rate, frames.
    lags : tuple of float
        How much later than in the spectrogram the last onset lies in the roll, one a rate, frames.
    """

    name: str
    seconds: float
    frames: int
    differences: tuple[int, ...]
    lags: tuple[float, ...]


@dataclass(frozen=True)
class RateSummary:
    """One rate over all songs; everything in frames.

    Parameters
    ----------
    name : str
    least, most, mean : float
        Smallest and largest difference in length, and the mean of the absolute ones.
    least_lag, most_lag, median_lag : float
        Smallest and largest lag at the end, and the median of the absolute ones.
    """

    name: str
    least: int
    most: int
    mean: float
    least_lag: float
    most_lag: float
    median_lag: float


@dataclass(frozen=True)
class LengthReport:
    """Every song, and every rate summed up.

    Parameters
    ----------
    rates : tuple of RateSummary
    songs : tuple of SongLengths
    """

    rates: tuple[RateSummary, ...]
    songs: tuple[SongLengths, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-ready names and values."""
        return asdict(self)


def compare_lengths(recordings: Sequence[Pair], progress: ProgressCallback = quiet) -> LengthReport:
    """Measure songs at every rate.

    Parameters
    ----------
    recordings : sequence of Pair
        At least one.
    progress : callable
        Called with ``(what, done, total)``.

    Raises
    ------
    MmidError
        If a recording cannot be read or does not last as long as its score.
    """
    songs = []
    for done, recording in enumerate(recordings, 1):
        songs.append(measure_song(recording))
        progress("Measuring", done, len(recordings))
    return LengthReport(summarize_rates(songs), tuple(songs))


def measure_song(recording: Pair) -> SongLengths:
    """Compare a recording's spectrogram with its score's roll at every rate.

    Where the sound has the song's last onsets is measured once, on the exact grid (`sound_lag`).
    Where a roll has them follows from its rate. Correlating sound and roll at every rate instead
    would not do: at 23.43 Hz they drift apart by 19 frames within the ten seconds compared, and
    the right place is up to hundreds of frames off, among all the repeats of a dance tune.

    Parameters
    ----------
    recording : Pair

    Raises
    ------
    MmidError
        If the recording cannot be read or does not last as long as its score.
    """
    bands = aligned_spectrogram(recording, DEFAULT).numpy()
    notes, end = recording.score.midi.notes, recording.score.midi.seconds
    rates = roll_rates(end)
    late, last = sound_lag(bands, notes), float(notes["onset"].max())
    return SongLengths(
        recording.name,
        end,
        bands.shape[1],
        tuple(bands.shape[1] - (int(rate * end) + 1) for rate in rates),
        tuple((rate - DEFAULT.frame_rate) * last - late for rate in rates),
    )


def onset_novelty(bands: np.ndarray) -> np.ndarray:
    """Return the positive spectral flux of each frame, summed over bands.

    Parameters
    ----------
    bands : np.ndarray [bands, frames]

    Returns
    -------
    np.ndarray [frames] float32
        How much louder the bands are than a frame before.
    """
    rise = np.diff(bands, axis=1, prepend=bands[:, :1])
    novelty: np.ndarray = np.maximum(rise, 0).sum(0)
    return novelty


def sound_lag(bands: np.ndarray, notes: np.ndarray) -> int:
    """Measure how much later than the exact grid's roll a recording plays the end of a song.

    The recording's onset novelty over the song's last ten seconds is correlated with the roll's
    onsets, up to 40 frames to either side.

    Parameters
    ----------
    bands : np.ndarray [bands, frames]
        The recording's spectrogram.
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        The whole song's.

    Returns
    -------
    int
        Frames, -40 to 40; positive where the sound is late, the smallest of equals.
    """
    end = float(notes["offset"].max()) * DEFAULT.frame_rate
    first = max(0, int(end - LAG_SECONDS * DEFAULT.frame_rate))
    length = int(end) + 1 - first
    roll = piano_roll(notes, length + 2 * MOST_LAG, DEFAULT, first=first - MOST_LAG)
    onsets = roll[DEFAULT.layers :].sum((0, 1)).numpy()
    novelty = np.zeros(length, np.float32)
    sounding = onset_novelty(bands)[first : first + length]
    novelty[: len(sounding)] = sounding
    scores = np.correlate(onsets, novelty)
    lags = np.arange(MOST_LAG, -MOST_LAG - 1, -1)
    best = np.flatnonzero(scores >= scores.max() * (1 - 1e-6))
    return int(min(lags[best], key=abs))


def summarize_rates(songs: Sequence[SongLengths]) -> tuple[RateSummary, ...]:
    """Sum up every rate over songs.

    Raises
    ------
    MmidError
        If there is no song.
    """
    if not songs:
        raise MmidError("no song to compare; --limit must be at least 1")
    summaries = []
    for number, name in enumerate(rate_names()):
        lengths = np.array([song.differences[number] for song in songs])
        lags = np.array([song.lags[number] for song in songs])
        summaries.append(
            RateSummary(
                name,
                int(lengths.min()),
                int(lengths.max()),
                float(np.abs(lengths).mean()),
                float(lags.min()),
                float(lags.max()),
                float(np.median(np.abs(lags))),
            )
        )
    return tuple(summaries)


def draw_lengths(report: LengthReport, path: Path) -> None:
    """Draw the differences in length and the lags against song length (the report's figures 3, 4).

    Parameters
    ----------
    report : LengthReport
    path : Path
        The .png or .svg file to write.
    """
    seconds = [song.seconds for song in report.songs]

    def panel(title: str, label: str, values: Sequence[Sequence[float]]) -> Panel:
        columns = zip(rate_names(), zip(*values, strict=True), strict=True)
        series = [Series(name, seconds, column, "points") for name, column in columns]
        return Panel(title, "song length (s)", label, series, "log", "symlog", LINEAR)

    save_figure(
        [
            panel(
                "spectrogram against roll: length",
                "difference (frames)",
                [song.differences for song in report.songs],
            ),
            panel(
                "roll against spectrogram: last onset",
                "lag (frames)",
                [song.lags for song in report.songs],
            ),
        ],
        path,
    )
