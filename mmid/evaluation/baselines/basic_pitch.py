"""Recordings to notes by basic-pitch, the published transcriber of a baseline.

Conventions: posteriorgrams are ``[frames, 88]``, from A0 (MIDI 21) up, 0 to 1; times in seconds.
Only the weights that the package ``basic-pitch`` brings are used: its code would import TensorFlow.
"""

from __future__ import annotations

import importlib.util
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mmid.errors import MmidError
from mmid.music.notes import NOTE_DTYPE

RATE = 22_050
"""Samples a second that the network takes."""

HOP = 256
WINDOW = 2 * RATE - HOP
OVERLAP = 30
"""Frames that neighbouring windows share; half of them are cut at either end."""

STEP = WINDOW - OVERLAP * HOP
LOWEST = 21

ONSET, FRAME = 0.5, 0.3
"""A note begins and goes on from these activations up, as basic-pitch has it by default."""

SHORTEST = 11
"""Notes last longer than so many frames, 128 ms."""

GAP = 11
"""Frames below `FRAME` that end a note."""

INSTALL = "pip install 'mmid[baselines]' and then pip install --no-deps basic-pitch"


def find_weights() -> Path:
    """Return the ONNX file of the installed basic-pitch, which is not imported.

    Raises
    ------
    MmidError
        If basic-pitch is not installed.
    """
    package = importlib.util.find_spec("basic_pitch")
    folders = (package.submodule_search_locations if package else None) or []
    for folder in folders:
        weights = Path(folder, "saved_models", "icassp_2022", "nmp.onnx")
        if weights.is_file():
            return weights
    raise MmidError(f"basic-pitch is not installed: {INSTALL}")


class BasicPitch:
    """basic-pitch's network, ready to transcribe; on as many threads as torch may use.

    Raises
    ------
    MmidError
        If onnxruntime or basic-pitch is not installed.

    References
    ----------
    .. [1] R. Bittner, J. Bosch, D. Rubinstein, G. Meseguer-Brocal, S. Ewert, "A lightweight
       instrument-agnostic model for polyphonic note transcription and multipitch estimation",
       ICASSP 2022.
    """

    def __init__(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MmidError(f"onnxruntime is not installed: {INSTALL}") from error
        self._runtime: Any = onnxruntime
        self._weights = find_weights()

    @cached_property
    def _session(self) -> Any:
        """The network with its threads, which a fork of this process would not have."""
        import torch

        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        return self._runtime.InferenceSession(
            str(self._weights), options, providers=["CPUExecutionProvider"]
        )

    def activations(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return how likely each note sounds, and begins, in each frame.

        Parameters
        ----------
        samples : np.ndarray [n] float32
            At `RATE`.

        Returns
        -------
        sounding, beginning : np.ndarray [frames, 88] float32
        times : np.ndarray [frames] float64
            Of the frames: two windows do not lie a whole number of frames apart.
        """
        cut = OVERLAP // 2
        windows = -(-(len(samples) + cut * HOP) // STEP)
        padded = np.zeros((windows - 1) * STEP + WINDOW, np.float32)
        padded[cut * HOP : cut * HOP + len(samples)] = samples
        inputs = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]
        names = ["StatefulPartitionedCall:1", "StatefulPartitionedCall:2"]
        per_batch: list[list[np.ndarray]] = [
            self._session.run(names, {"serving_default_input_2:0": window[None, :, None]})
            for window in inputs
        ]
        sounding, beginning = (
            np.concatenate([outputs[i][0, cut:-cut] for outputs in per_batch]) for i in (0, 1)
        )
        frames = np.arange(len(sounding) // windows) * HOP
        times = (np.arange(windows)[:, None] * STEP + frames).ravel() / RATE
        inside = times < len(samples) / RATE
        return sounding[inside], beginning[inside], times[inside]

    def transcribe(self, samples: np.ndarray) -> np.ndarray:
        """Return the notes of a recording.

        Parameters
        ----------
        samples : np.ndarray [n] float32
            At `RATE`.

        Returns
        -------
        np.ndarray [notes] of mmid.music.notes.NOTE_DTYPE
        """
        return decode_notes(*self.activations(samples))


def decode_notes(sounding: np.ndarray, beginning: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Make notes of posteriorgrams, as basic-pitch's ``output_to_notes_polyphonic`` does.

    From every peak of the onsets, last to first, a note goes on while it sounds; what is left then
    makes notes around its strongest frames ("melodia trick"). A note takes the energy of its two
    neighbours with it.

    Parameters
    ----------
    sounding, beginning : np.ndarray [frames, 88] float32
    times : np.ndarray [frames] float64

    Returns
    -------
    np.ndarray [notes] of mmid.music.notes.NOTE_DTYPE
        Sorted by onset and pitch; the velocity is the mean activation.
    """
    last = len(sounding) - 1
    energy = sounding.copy()
    found = []
    for first, key in _onsets(sounding, beginning)[::-1]:
        end, _ = _reach(energy[:last, key], first, 1)
        if end - first > SHORTEST:
            energy[first:end, max(0, key - 1) : key + 2] = 0
            found.append((first, end, key))
    strongest = np.argsort(-energy, axis=None, kind="stable")
    strongest = strongest[: np.count_nonzero(energy > FRAME)]
    for middle, key in np.stack(np.unravel_index(strongest, energy.shape), 1).tolist():
        if energy[middle, key] == 0:
            continue
        energy[middle, key] = 0
        end, after = _reach(energy[:last, key], middle, 1)
        first, before = _reach(energy[:, key], middle, -1)
        keys = slice(max(0, key - 1), key + 2)
        energy[middle + 1 : after, keys] = energy[before + 1 : middle, keys] = 0
        if end - 1 - (first + 1) > SHORTEST:
            found.append((first + 1, end - 1, key))
    notes = np.zeros(len(found), NOTE_DTYPE)
    for note, (first, end, key) in zip(notes, found, strict=True):
        loudness = round(127 * float(sounding[first:end, key].mean()))
        note["onset"], note["offset"] = times[first], times[end]
        note["pitch"], note["velocity"] = key + LOWEST, min(loudness, 127)
    return notes[np.lexsort((notes["pitch"], notes["onset"]))]


def _onsets(sounding: np.ndarray, beginning: np.ndarray) -> list[tuple[int, int]]:
    """List frame and key of the onsets' peaks, also of those that a rise in energy shows."""
    rises = [sounding - np.pad(sounding, ((n, 0), (0, 0)))[:-n] for n in (1, 2)]
    rise = np.maximum(np.minimum(*rises), 0)
    rise[:2] = 0
    if rise.any():
        beginning = np.maximum(beginning, rise * (beginning.max() / rise.max()))
    inner = beginning[1:-1]
    peaks = (inner > beginning[:-2]) & (inner > beginning[2:]) & (inner >= ONSET)
    frame, key = np.nonzero(peaks)
    return list(zip((frame + 1).tolist(), key.tolist(), strict=True))


def _reach(energy: np.ndarray, frame: int, step: int) -> tuple[int, int]:
    """Follow a key from a frame on, either way, until it has been silent for long.

    Returns
    -------
    int, int
        The first frame of the silence, and the first one that was not looked at.
    """
    frame, silent = frame + step, 0
    while 0 < frame < len(energy) and silent < GAP:
        silent = silent + 1 if energy[frame] < FRAME else 0
        frame += step
    return frame - step * silent, frame
