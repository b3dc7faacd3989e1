"""The notes that an index holds, and what their fingerprints find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmid.index.fingerprints import Agreement, search_triples
from mmid.index.items import Entry
from mmid.index.sorted_file import SortedFile


class Noted:
    """The notes of the items of an index, wherever it lives, and what their note triples find."""

    entries: list[Entry]
    all_notes: np.ndarray

    def _postings(self) -> SortedFile:
        """Return the postings of all notes' triples; every kind of index has them elsewhere."""
        raise NotImplementedError

    def search_triples(
        self, notes: np.ndarray, top: int, keys: Sequence[int] = (0,)
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
        """
        firsts = np.array([entry.first_note for entry in self.entries])
        return search_triples(self._postings(), self.all_notes, firsts, notes, top, keys)

    def notes(self, piece: int) -> np.ndarray:
        """Return the notes of a MIDI file, as `mmid.music.midi.read_midi` read them."""
        return self.notes_of(self.entries[piece])

    def notes_of(self, entry: Entry) -> np.ndarray:
        """Return the notes of a row of the table."""
        return np.asarray(self.all_notes[entry.first_note : entry.first_note + entry.notes])
