"""The one time base of both pathways, and every number derived from it.

Conventions: times in seconds, frequencies in Hz, frame ``i`` is centred on second
``i * hop / sample_rate`` in recordings and in piano rolls alike.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, get_args

from mmid.errors import MmidError
from mmid.options import RollRate, Scale

FAMILIES = 16
"""Instrument families of General MIDI, eight programs each."""

ADAPTIVE_POINTS = ((150.0, 21.9), (20.0, 23.3))
"""The 2020 report's fit: song length in seconds, roll frames a second."""


@dataclass(frozen=True)
class FeatureParams:
    """The feature grid; a checkpoint and an index carry the one they were made with.

    Parameters
    ----------
    sample_rate : int
        Rate of the mono audio, Hz.
    window, hop : int
        Hann window and hop of the STFT, samples.
    bands : int
        Triangular frequency bands.
    low, high : float
        Lowest and highest band edge, Hz.
    compression : float
        ``c`` of the log compression ``log(1 + c x) / log(1 + c)``; 1000 keeps 60 dB.
    scale : {"log", "mel", "fine"}
        Spacing of the bands: 16 to the octave, the 2020 report's mel scale, or as in `FINE`.
    pitches : int
        MIDI pitches of the roll.
    onsets : bool
        Whether the roll has a second channel of note onsets.
    unstacked : bool
        Whether every instrument family has channels of its own.
    roll_rate : {"exact", "adaptive"}
        Frames of a roll a second: the spectrogram's, or the 2020 report's fit to song lengths.
    snippet : int
        Frames a snippet spans.
    """

    sample_rate: int = 22_050
    window: int = 2_048
    hop: int = 1_024
    bands: int = 92
    low: float = 30.0
    high: float = 6_000.0
    compression: float = 1_000.0
    scale: Scale = "log"
    pitches: int = 128
    onsets: bool = True
    unstacked: bool = False
    roll_rate: RollRate = "exact"
    snippet: int = 42

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return self.sample_rate / self.hop

    @property
    def snippet_seconds(self) -> float:
        """Length of a snippet, seconds."""
        return self.snippet / self.frame_rate

    @property
    def bins(self) -> int:
        """Frequency bins of the STFT."""
        return self.window // 2 + 1

    @property
    def halves(self) -> int:
        """How often a frame of a spectrogram holds every band, evenly spaced in time."""
        return 2 if self.scale == "fine" else 1

    @property
    def layers(self) -> int:
        """Channels of sounding notes: one for all instruments, or one an instrument family."""
        return FAMILIES if self.unstacked else 1

    @property
    def roll_channels(self) -> int:
        """Channels of the roll: sounding notes, then as many of onsets where asked for."""
        return self.layers * (2 if self.onsets else 1)

    def roll_frame_rate(self, seconds: float) -> float:
        """Return the frames a second of the roll of a piece that lasts so long.

        Examples
        --------
        >>> round(FeatureParams(roll_rate="adaptive").roll_frame_rate(150.0), 3)
        21.9
        """
        if self.roll_rate == "exact":
            return self.frame_rate
        (long, slow), (short, fast) = ADAPTIVE_POINTS
        slope = (slow - fast) / math.log(long / short)
        return slow + slope * math.log(max(seconds, 1.0) / long)

    @property
    def spectrogram_values(self) -> tuple[float | str, ...]:
        """The parameters that shape a spectrogram, and nothing else."""
        edges = (self.sample_rate, self.window, self.hop, self.bands, self.low, self.high)
        return (*edges, self.compression, self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON-ready names and values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureParams:
        """Rebuild parameters that `to_dict` gave.

        A name that an older file lacks has its default: what mmid did before it had the choice.

        Raises
        ------
        MmidError
            If a name is unknown, as in a file of a later version.
        """
        odd = sorted(set(values) - set(cls.__dataclass_fields__))
        if odd:
            raise MmidError(f"feature parameters of another mmid version: {', '.join(odd)}")
        params = cls(**values)
        params._refuse_absurd()
        return params

    def _refuse_absurd(self) -> None:
        """Refuse values that a file may say but nothing can be made with."""
        for name, (least, most) in BOUNDS.items():
            value = getattr(self, name)
            real = isinstance(getattr(DEFAULT, name), float)
            if type(value) not in ((int, float) if real else (int,)) or not least <= value <= most:
                raise MmidError(f"a feature parameter out of range: {name} {value!r:.20}")
        choices = (("scale", get_args(Scale)), ("roll_rate", get_args(RollRate)))
        flags = (("onsets", (True, False)), ("unstacked", (True, False)))
        for name, known in (*choices, *flags):
            if getattr(self, name) not in known:
                raise MmidError(f"a feature parameter of another kind: {name}")
        if not self.low < self.high <= self.sample_rate / 2 or self.hop > self.window:
            raise MmidError("feature parameters that do not go together")
        if self.scale == "fine" and self.spectrogram_values != FINE.spectrogram_values:
            raise MmidError("feature parameters that do not go together")


DEFAULT = FeatureParams()

FINE = FeatureParams(window=5_120, bands=624, low=27.0, high=10_600.0, scale="fine")
"""Three bins a semitone, twice a frame: what `mmid.music.log_frequency` gives."""

CONCERT_A = 440.0
"""Hz."""

BOUNDS = {
    "sample_rate": (1_000, 192_000),
    "window": (16, 1 << 16),
    "hop": (16, 1 << 16),
    "bands": (1, 1_024),
    "low": (0.1, 1e5),
    "high": (0.1, 1e5),
    "compression": (1e-3, 1e9),
    "pitches": (128, 128),
    "snippet": (10, 1_024),
}
"""Values that make sense, least and most; what a file says beyond them is refused."""
