"""The notes that an index holds, and what their fingerprints find.

Conventions: stored notes say by the highest bit of their velocity, which MIDI leaves free, that
they are the melody's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmid.index.fingerprint_search import Agreement, search_triples
from mmid.index.items import Entry
from mmid.index.sorted_file import SortedNumbers
from mmid.system.arrays import let_go

MELODY_BIT = 0x80


def mark_melody(notes: np.ndarray, melody: np.ndarray) -> np.ndarray:
    """Return notes as they are stored.

    Parameters
    ----------
    notes : np.ndarray [n] of mmid.music.notes.NOTE_DTYPE
    melody : np.ndarray [n] bool
        Which of them are the melody's.
    """
    marked = notes.copy()
    marked["velocity"] |= np.where(melody, MELODY_BIT, 0).astype(np.uint8)
    return marked


def in_melody(stored: np.ndarray) -> np.ndarray:
    """Return which of stored notes are the melody's."""
    return np.asarray(np.asarray(stored["velocity"]) >= MELODY_BIT)


class Noted:
    """The notes of the items of an index, wherever it lives, and what their note triples find."""

    entries: list[Entry]
    all_notes: np.ndarray

    def _postings(self, *, melody: bool = False) -> SortedNumbers:
        """Return the postings of all notes' triples, or of melodies'.

        Every kind of index has them elsewhere.
        """
        raise NotImplementedError

    def search_triples(
        self,
        notes: np.ndarray,
        top: int,
        keys: Sequence[int] = (0,),
        *,
        melody: bool = False,
        effort: float = 1.0,
    ) -> list[Agreement]:
        """Find the positions that note triples of a query agree on (`mmid.index.fingerprints`).

        Parameters
        ----------
        notes : np.ndarray of mmid.music.notes.NOTE_DTYPE
            The query's, sorted by onset.
        top : int
            Positions to return, one a piece and key.
        keys : sequence of int
            Semitones that may take a piece to the query's key.
        melody : bool
            Look in the melodies alone, at a steady tempo.
        effort : float
            How much of the triples to look up (`mmid.index.fingerprint_search.QUICKLY`).
        """
        firsts = np.array([entry.first_note for entry in self.entries])
        postings = self._postings(melody=melody)
        found = search_triples(
            postings,
            self.all_notes,
            firsts,
            notes,
            top,
            keys,
            steady=melody,
            effort=effort,
        )
        let_go(self.all_notes)
        return found

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of a MIDI file, as `mmid.music.midi.read_midi` read them."""
        notes = self.stored_notes(self.entries[piece]).copy()
        notes["velocity"] &= MELODY_BIT - 1
        return notes

    def melody(self, piece: int) -> np.ndarray:
        """Return which of the notes of a MIDI file are its melody's."""
        return in_melody(self.stored_notes(self.entries[piece]))

    def stored_notes(self, entry: Entry) -> np.ndarray:
        """Return the notes of a row of the table as they are stored, with the melody's marked."""
        return np.asarray(self.all_notes[entry.first_note : entry.first_note + entry.notes])
