"""The one time base of both pathways, and every number derived from it.

Conventions: times in seconds, frequencies in Hz, frame ``i`` is centred on second
``i * hop / sample_rate`` in recordings and in piano rolls alike.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from mmid.errors import MmidError


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
    pitches : int
        MIDI pitches of the roll.
    onsets : bool
        Whether the roll has a second channel of note onsets.
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
    pitches: int = 128
    onsets: bool = True
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
    def roll_channels(self) -> int:
        """Channels of the roll: sounding notes, and onsets where asked for."""
        return 2 if self.onsets else 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the parameters, hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as JSON-ready names and values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FeatureParams:
        """Rebuild parameters that `to_dict` gave.

        Raises
        ------
        MmidError
            If a name is unknown or missing, as in a file of another version.
        """
        if set(values) != set(cls.__dataclass_fields__):
            odd = sorted(set(values) ^ set(cls.__dataclass_fields__))
            raise MmidError(f"feature parameters of another mmid version: {', '.join(odd)}")
        return cls(**values)


DEFAULT = FeatureParams()
