"""The melodies of an index, coarsely: in a byte a note, when it begins and its pitch class.

Conventions: time is counted in `RATE` frames a second from where an item begins, pitch classes from
C. A code is `CLASSES` times the frames since the note before, or since the item began, and the
pitch class on top of that; `REST` lets as many frames pass and is no note. A data folder has the
codes of its items one after the other, and their bounds, uint32 ``[2, items + 1]``: of each that
has notes the first one, of the folder's, and the first code; behind these how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmid.index.items import Entry
from mmid.index.manifest import MELODIES, MELODY_BOUNDS
from mmid.index.notes import in_melody
from mmid.index.spans import join_spans
from mmid.system.arrays import joined, let_go, map_array

CLASSES = 12

RATE = 4
"""Frames a second: a note may begin so much earlier or later than it is written."""

REPEATED = RATE // 2
"""Notes of one pitch class that follow each other within so many frames count once."""

REST = 21 * CLASSES
"""The highest code."""

TOGETHER = 256
"""Items packed at a time; bounds memory."""


@dataclass(frozen=True, eq=False)
class PackedMelodies:
    """The melodies of items, of which some are unpacked at a time.

    Parameters
    ----------
    codes : np.ndarray [n] uint8
        May be mapped.
    first, end : np.ndarray [items] int64
        Where each item's codes begin and end.
    """

    codes: np.ndarray
    first: np.ndarray
    end: np.ndarray

    @classmethod
    def of(
        cls, parts: Sequence[tuple[np.ndarray, np.ndarray]], entries: Sequence[Entry]
    ) -> PackedMelodies:
        """Take the codes and the bounds of data folders, the delta's last, as those of items.

        Raises
        ------
        ValueError
            If they are not of one another.
        """
        if any(bounds[1, -1] != len(codes) for codes, bounds in parts):
            raise ValueError("counts of melodies do not agree")
        whole = [bounds.astype(np.int64) for _, bounds in parts]
        ahead = np.cumsum([np.zeros(2, np.int64), *(bounds[:, -1] for bounds in whole)], axis=0)
        whole = [bounds + before[:, None] for bounds, before in zip(whole, ahead, strict=False)]
        note, first = np.concatenate([bounds[:, :-1] for bounds in whole], 1)
        end = np.concatenate([bounds[1, 1:] for bounds in whole])
        counts = np.array([entry.notes for entry in entries])
        own = np.array([entry.first_note for entry in entries])[counts > 0]
        at = np.searchsorted(note, own)
        if (at == len(note)).any() or (note[at] != own).any():
            raise ValueError("holds melodies of other pieces")
        begins, ends = np.zeros((2, len(counts)), np.int64)
        begins[counts > 0], ends[counts > 0] = first[at], end[at]
        return cls(joined([codes for codes, _ in parts]), begins, ends)

    @classmethod
    def map(
        cls, codes: Sequence[Path], bounds: Sequence[Path], entries: Sequence[Entry]
    ) -> PackedMelodies:
        """Map the codes of data folders and read their bounds, as `of` takes them.

        Raises
        ------
        OSError
            If one of them cannot be read.
        ValueError
            If they hold something else, or are not of one another.
        """
        parts = [
            (map_array(some, np.uint8), np.array(map_array(theirs, np.uint32, 2)))
            for some, theirs in zip(codes, bounds, strict=True)
        ]
        return cls.of(parts, entries)

    def __len__(self) -> int:
        return len(self.first)

    def codes_of(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the codes of some items, item by item, and how many each has.

        Parameters
        ----------
        items : np.ndarray [m] int64

        Returns
        -------
        codes : np.ndarray [n] uint8
        counts : np.ndarray [m] int64
        """
        first, end = self.first[items], self.end[items]
        spans = join_spans(zip(first.tolist(), (end - first).tolist(), strict=True))
        return np.concatenate([self.codes[span] for span in spans]), end - first


def store_melodies(folder: Path, notes: np.ndarray, entries: Sequence[Entry]) -> None:
    """Write the melodies of the items of a data folder, as `pack_melodies` packs them.

    Raises
    ------
    OSError
        If they cannot be written.
    """
    codes, bounds = pack_melodies(notes, entries)
    np.save(folder / MELODIES, codes)
    np.save(folder / MELODY_BOUNDS, bounds)


def pack_melodies(notes: np.ndarray, entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray]:
    """Pack the melodies of items.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
        As they are stored (`mmid.index.notes`).
    entries : sequence of Entry
        By their first notes, which are counted in these.

    Returns
    -------
    codes : np.ndarray [codes] uint8
    bounds : np.ndarray [2, items that have notes + 1] uint32
    """
    noted = [entry for entry in entries if entry.notes]
    blocks = [_packed(notes, noted[i : i + TOGETHER]) for i in range(0, len(noted), TOGETHER)]
    counts = np.concatenate([np.zeros(1, np.int64), *(counts for _, counts in blocks)])
    bounds = [*(entry.first_note for entry in noted), len(notes)], np.cumsum(counts)
    codes = np.concatenate([np.zeros(0, np.uint8), *(codes for codes, _ in blocks)])
    return codes, np.stack(bounds).astype(np.uint32)


def _packed(notes: np.ndarray, entries: Sequence[Entry]) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of items that have notes, and how many each has."""
    begin, count = np.array([(entry.first_note, entry.notes) for entry in entries]).T
    own = np.array(notes[begin[0] : begin[-1] + count[-1]])
    let_go(notes)
    number = np.flatnonzero(in_melody(own))
    item = np.searchsorted(begin - begin[0], number, "right") - 1
    theirs = number < (begin - begin[0] + count)[item]  # not of an item that was removed
    number, item = number[theirs], item[theirs]
    frame = np.round(own["onset"][number] * RATE).astype(np.int64)
    notes_of = np.stack([item, frame, own["pitch"][number] % CLASSES])
    return _coded(_not_repeated(notes_of), len(entries))


def _not_repeated(notes: np.ndarray) -> np.ndarray:
    """Sort the items, frames and pitch classes of notes; leave out what repeats one at once."""
    item, frame, pitch_class = notes
    notes = notes[:, np.lexsort((frame, pitch_class, item))]
    item, frame, pitch_class = notes
    again = np.zeros(len(frame), bool)
    same = (np.diff(pitch_class) == 0) & (np.diff(item) == 0)
    again[1:] = same & (np.diff(frame) < REPEATED)
    run = np.flatnonzero(~again)[np.cumsum(~again) - 1]
    again[1:] &= np.diff((frame - frame[run]) // REPEATED) == 0
    kept = notes[:, ~again]
    return np.asarray(kept[:, np.lexsort((kept[2], kept[1], kept[0]))])


def _coded(notes: np.ndarray, items: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the codes of sorted notes, and how many each of so many items has."""
    item, frame, pitch_class = notes
    first = np.diff(item, prepend=-1) > 0
    passed = np.where(first, frame, np.diff(frame, prepend=0))
    rests, passed = np.divmod(passed, REST // CLASSES)
    position = np.cumsum(rests + 1) - 1
    codes = np.full(int((rests + 1).sum()), REST, np.uint8)
    codes[position] = passed * CLASSES + pitch_class
    return codes, np.bincount(item, rests + 1, items).astype(np.int64)
