"""Score files as notes: each is made MIDI by the program that reads it best, and read as MIDI is.

Conventions: as of `mmid.music.midi`, whose reader and limits have the last word. Repeats are
unfolded, instruments that transpose are at sounding pitch, ties are one note, graces and ornaments
sound as the program plays them, chord symbols do not sound, and percussion is left out.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from mmid.errors import MidiError, label
from mmid.music.formats import suffix_of
from mmid.music.midi import Midi, midi_of, read_midi
from mmid.music.midi_parser import MidiLimits, read_bytes
from mmid.music.scores.bars import Bars, printed_bars
from mmid.music.scores.bounded import ScoreWorker, run_bounded
from mmid.music.scores.converters import (
    ABC2MIDI,
    CONVERTERS,
    MUSESCORE,
    VEROVIO,
    find_abc2midi,
    find_musescore,
    find_verovio,
)
from mmid.music.scores.kern_order import played_in_order
from mmid.music.scores.musescore_bars import musescore_bars, with_every_measure
from mmid.music.scores.titles import abc_credit, kern_title, text_of, xml_title
from mmid.music.scores.tune_bars import marked, tune_bars
from mmid.music.scores.tune_books import tune_text

SCORE_BYTES = 64 * 2**20
"""Larger files are refused, and so are archives of more when unpacked."""

TUNE_SECONDS, TUNE_MEGABYTES = 10.0, 1_024
_EMPTY = 64  # bytes; no MIDI file with notes is smaller
_OLDER = "3.01"
MUSESCORE_SECONDS, MUSESCORE_MEGABYTES = 180.0, 6_144
_HEAD = 1 << 16
_ZIP, _CONTAINER, _XML = b"PK", "META-INF/container.xml", (".xml", ".musicxml")
_BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError)
_MEI, _DECLARATION = re.compile(r"<(?:\w+:)?mei\b"), re.compile(r"\A\s*<\?xml[^>]*\?>")
_UNSOUNDED = re.compile(rb"(?im)^(?:R:|%%\s*abc-include|I:\s*abc-include|%%MIDI\s+drum).*\n?")
_PARTS, _OLD_ORDER = re.compile(rb"(?m)^P:"), re.compile(rb"(?m)^Y:(?=[ \t]*[A-Z]+[ \t]*$)")
_ROOTFILE = re.compile(r"<rootfile\b[^>]*\bfull-path=[\"']([^\"']+)[\"']")
_MADE_BY = re.compile(r"<museScore version=\"([\d.]+)\"")


@dataclass(frozen=True)
class Converted:
    """What a program made of a score: MIDI, what the file says of itself, and where bars are."""

    midi: bytes
    title: str | None
    bars: Bars
    remark: str | None = None


def read_music(path: str | os.PathLike[str], limits: MidiLimits = MidiLimits()) -> Midi:
    """Read the notes of a MIDI file, a score, or a tune of an ABC book.

    Parameters
    ----------
    path : str or PathLike
        Its suffix says what it is; `mmid.music.scores.tune_books` says what a tune goes by.
    limits : MidiLimits
        Of what it comes to as MIDI.

    Returns
    -------
    Midi
        At least one note.

    Raises
    ------
    MidiError
        The file cannot be read, its reader is not installed, or it has no notes but drums. The
        message is one line, ``<file name>: <reason>``.
    """
    path = Path(path)
    suffix = suffix_of(path.name)
    converter = next((c for c in CONVERTERS if suffix in c.suffixes), None)
    if converter is None:
        return read_midi(path, limits)
    try:
        if not converter.find():
            raise MidiError(f"needs {converter.name}: {converter.way_out}")
        made = _READERS[converter.name](path)
        midi = midi_of(made.midi, limits, made.title, made.bars)
        return replace(midi, damage=made.remark) if made.remark else midi
    except MidiError as error:
        raise MidiError(f"{label(path.name)}: {error}") from None


def _with_verovio(path: Path) -> Converted:
    suffix, data = suffix_of(path.name), read_bytes(path, SCORE_BYTES)
    text = text_of(_unpacked(data, _root_file) if data[:2] == _ZIP else data)
    if suffix == ".krn":
        midi, bars = _worker().convert("humdrum", played_in_order(text))
        return Converted(midi, kern_title(text), partial(printed_bars, bars))
    form = "mei" if _MEI.search(text[:_HEAD]) else "xml"
    midi, bars = _worker().convert(form, _DECLARATION.sub("", text))
    return Converted(midi, xml_title(text), partial(printed_bars, bars))


@cache
def _worker() -> ScoreWorker:
    folder = find_verovio()
    assert folder
    return ScoreWorker(folder)


def _unpacked(data: bytes, choose: Callable[[zipfile.ZipFile], str]) -> bytes:
    """Return the file of an archive that holds the score."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive, archive.open(choose(archive)) as file:
            content = file.read(SCORE_BYTES + 1)
    except (*_BROKEN_ZIP, KeyError, StopIteration):
        raise MidiError("a damaged archive, or one that holds no score") from None
    if len(content) > SCORE_BYTES:
        raise MidiError(f"larger than {SCORE_BYTES} bytes when unpacked")
    return content


def _root_file(archive: zipfile.ZipFile) -> str:
    """Choose what an archive says that it holds, else the first XML file that is not about it."""
    with suppress(KeyError), archive.open(_CONTAINER) as file:
        found = _ROOTFILE.search(text_of(file.read(_HEAD)))
        if found:
            return found[1]
    return next(n for n in archive.namelist() if n.endswith(_XML) and "META-INF" not in n)


def _musescore_file(archive: zipfile.ZipFile) -> str:
    return next(name for name in archive.namelist() if name.endswith(".mscx"))


def _with_abc2midi(path: Path) -> Converted:
    """Make MIDI of a tune; a swing that its rhythm would be given is left out."""
    text, program = tune_text(path), find_abc2midi()
    sounding = _UNSOUNDED.sub(b"", text)
    if _PARTS.search(sounding):  # in old ABC, their order is a field of its own
        sounding = _OLD_ORDER.sub(b"P:", sounding)
    assert program
    with _workplace() as folder:
        source, target = folder / "tune.abc", folder / "tune.mid"
        source.write_bytes(marked(sounding))
        command = (program, source.name, "-o", target.name, "-silent", "-NGUI")
        run_bounded(command, "abc2midi", TUNE_SECONDS, TUNE_MEGABYTES, folder=folder)
        midi = _made(target, "abc2midi")
        return Converted(midi, abc_credit(text), partial(tune_bars, sounding, midi))


def _with_musescore(path: Path) -> Converted:
    """Make MIDI of a MuseScore file; one newer than the program is given to it as an older one."""
    data, program = read_bytes(path, SCORE_BYTES), find_musescore()
    assert program
    text = text_of(_unpacked(data, _musescore_file) if data[:2] == _ZIP else data)
    title, remark, suffix = xml_title(text), None, suffix_of(path.name)
    if (plain := with_every_measure(text)) != text:
        text, data, suffix = plain, plain.encode(), ".mscx"
    midi, positions = _run_musescore(program, suffix, data)
    made_by = _MADE_BY.search(text[:_HEAD])
    if len(midi) < _EMPTY and made_by:
        older = text.replace(made_by[0], f'<museScore version="{_OLDER}"', 1)
        midi, positions = _run_musescore(program, ".mscx", older.encode())
        remark = f"saved by MuseScore {made_by[1]}, read by an older one: maybe not all of it"
    if len(midi) < _EMPTY:
        raise MidiError("MuseScore reads no notes in it")
    return Converted(midi, title, partial(musescore_bars, text, positions), remark)


def _run_musescore(program: str, suffix: str, data: bytes) -> tuple[bytes, str]:
    """Have MuseScore, without a screen, make MIDI of a score and say when its measures sound."""
    with _workplace() as folder:
        source, job = folder / f"score{suffix}", folder / "job.json"
        midi, positions = folder / "score.mid", folder / "score.mpos"
        source.write_bytes(data)
        job.write_text(json.dumps([{"in": str(source), "out": [str(midi), str(positions)]}]))
        run_bounded(
            (program, "-f", "-j", str(job)),
            "MuseScore",
            MUSESCORE_SECONDS,
            MUSESCORE_MEGABYTES,
            {"QT_QPA_PLATFORM": "offscreen", "XDG_RUNTIME_DIR": str(folder)},
            folder,
        )
        made = _made(midi, "MuseScore")
        with suppress(MidiError):
            return made, text_of(read_bytes(positions, SCORE_BYTES))
        return made, ""


def _made(target: Path, name: str) -> bytes:
    with suppress(MidiError):
        if made := read_bytes(target, MidiLimits().bytes):
            return made
    raise MidiError(f"{name} makes no MIDI of it")


@contextmanager
def _workplace() -> Iterator[Path]:
    with TemporaryDirectory(prefix="mmid-score-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


_READERS: dict[str, Callable[[Path], Converted]] = {
    VEROVIO.name: _with_verovio,
    ABC2MIDI.name: _with_abc2midi,
    MUSESCORE.name: _with_musescore,
}
