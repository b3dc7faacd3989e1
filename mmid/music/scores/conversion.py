"""Scores written as MIDI files: the notes as mmid reads them, to be heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmid.errors import MidiError, label
from mmid.music.folders import BadFile, each_once, find, pieces_of
from mmid.music.midi import write_midi
from mmid.music.scores.reading import read_music
from mmid.music.scores.tune_books import plain_name
from mmid.system.console import ProgressCallback, quiet, warn
from mmid.system.outputs import target_paths, written_target

SUFFIX = ".mid"


@dataclass(frozen=True)
class Converted:
    """What became of files.

    Parameters
    ----------
    written : tuple of Path
        MIDI files, one a piece.
    bad : tuple of BadFile
        What could not be read, or would have been written over a file.
    """

    written: tuple[Path, ...]
    bad: tuple[BadFile, ...]


def convert_files(
    named: Sequence[Path], out: Path, progress: ProgressCallback = quiet
) -> Converted:
    """Write every piece of files and folders as a MIDI file.

    Parameters
    ----------
    named : sequence of Path
        MIDI files and scores, and folders of them.
    out : Path
        Folder, made if it is missing; a file is called after its piece, with a number where
        several have a name; those that are there stay as they are.
    progress : callable
        Called with ``(what, done, total)``.

    Raises
    ------
    MmidError
        If nothing can be written there, or a folder holds no file that can be read.
    """
    found = [find(path, "midi").files if path.is_dir() else pieces_of(path) for path in named]
    pieces = each_once(path for files in found for path in files)
    names = [Path(f"{plain_name(path)}{SUFFIX}") for path in pieces]
    out.mkdir(parents=True, exist_ok=True)
    written, bad = [], []
    for done, (path, target) in enumerate(
        zip(pieces, target_paths(out, names, (SUFFIX,), SUFFIX), strict=True), 1
    ):
        try:
            if target.exists():
                raise MidiError(f"{label(path.name)}: {label(target)} is there already")
            midi = read_music(path)
        except MidiError as error:
            bad.append(BadFile(path, str(error)))
        else:
            if midi.damage:
                warn(f"{label(path.name)}: {midi.damage}")
            with written_target(target) as part:
                write_midi(midi.notes, part)
            written.append(target)
        progress("Converting", done, len(pieces))
    return Converted(tuple(written), tuple(bad))
