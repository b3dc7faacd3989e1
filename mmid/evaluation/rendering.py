"""A library rendered to audio files, and the list of which MIDI file each was made from.

Conventions: audio is stereo, 16 bits a sample, as loud as fluidsynth plays it. A folder of
renderings mirrors the library's folders. ``renderings.jsonl`` there holds the settings and then a
line for each finished file, written after the file itself, so an interrupted run goes on where it
stopped; ``pairs.csv`` lists the pairs as `mmid eval pieces` reads them. Paths in both are relative
to the folder.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import chain, count
from pathlib import Path, PurePosixPath

import numpy as np

from mmid.errors import MmidError, RenderError, label
from mmid.music.audio_writer import write_audio
from mmid.music.folders import BadFile, find_midi, library_root
from mmid.music.library import read_piece
from mmid.music.pairs import PAIRS_NAME, write_pairs_list
from mmid.music.synthesizer import Synthesizer
from mmid.system.console import warn
from mmid.system.files import UNFINISHED, file_digest, written_whole
from mmid.system.processes import parallel
from mmid.version import __version__

FORMAT = "mmid-renderings-1"
JOURNAL = "renderings.jsonl"

ENCODINGS = ("wav", "flac")
"""Those without loss, as `mmid.music.audio_writer` names them."""

SAMPLE_RATES = (8_000, 96_000)
"""Lowest and highest rate fluidsynth plays at, Hz."""

MAX_SECONDS = 2 * 3600.0
"""The longest music that is rendered; all of it is held in memory, 2.5 GB at 44.1 kHz."""


@dataclass(frozen=True)
class Settings:
    """What all files of a folder of renderings have in common.

    Parameters
    ----------
    soundfont : str
        Name of the .sf2 or .sf3 file.
    soundfont_sha256 : str
        SHA-256 of that file, hexadecimal.
    sample_rate : int
        Hz.
    encoding : str
        One of `ENCODINGS`.
    """

    soundfont: str
    soundfont_sha256: str
    sample_rate: int
    encoding: str


@dataclass(frozen=True)
class Rendering:
    """An audio file, and the MIDI file it was made from.

    Parameters
    ----------
    midi, audio : str
        Paths relative to the folder of renderings, with forward slashes.
    sha256 : str
        SHA-256 of the MIDI file, hexadecimal.
    seconds : float
        Length of the audio.
    """

    midi: str
    audio: str
    sha256: str
    seconds: float


@dataclass(frozen=True)
class RenderReport:
    """What a run did.

    Parameters
    ----------
    made, kept : int
        Files of the library that were rendered now, and those that were there already.
    seconds : float
        Length of their audio together.
    bad : tuple of BadFile
        MIDI files left out, and why.
    """

    made: int
    kept: int
    seconds: float
    bad: tuple[BadFile, ...]


@dataclass(frozen=True)
class _Job:
    """A MIDI file to render, by its path; `midi` and `audio` are as in `Rendering`."""

    path: Path
    midi: str
    audio: str
    folder: Path
    soundfont: Path
    settings: Settings


def render_library(
    folders: Sequence[Path],
    out: Path,
    soundfont: Path,
    *,
    sample_rate: int = 44_100,
    encoding: str = "wav",
    jobs: int | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> RenderReport:
    """Render the MIDI files below the folders that are new or changed since the last run.

    Notes, instruments and velocities are the file's, at its tempo. What mmid does not read is
    left out: drums, pitch bends and controllers such as the pedal.

    Parameters
    ----------
    folders : sequence of Path
        Library folders, or single files.
    out : Path
        Folder for the audio: new, empty, or of an earlier run with the same settings.
    soundfont : Path
        An .sf2 or .sf3 file.
    sample_rate : int
        Hz, within `SAMPLE_RATES`.
    encoding : {"wav", "flac"}
    jobs : int, optional
        Worker processes; all cores by default.
    progress : callable
        Called with ``(what, done, total)``.

    Returns
    -------
    RenderReport

    Raises
    ------
    MmidError
        If a folder is missing or without MIDI files, no file can be read, or `out` holds other
        things, or renderings made with other settings.
    RenderError
        If fluidsynth is missing or refuses the soundfont, or a file cannot be written.
    """
    settings = _check_settings(soundfont, sample_rate, encoding)
    out = out.resolve()
    library, unnamed = _find(folders, out)
    current = [r for r in _open(out, settings) if _is_current(r, library, out)]
    _write_journal(out, settings, current)
    tasks = _jobs(library, current, out, soundfont.resolve(), settings)
    results: list[Rendering | BadFile] = []
    try:
        for result, damage in parallel(_render, tasks, jobs, batch=1, least=4):
            if damage:
                warn(f"{label(tasks[len(results)].path.name)}: {damage}")
            results.append(result)
            progress("Rendering", len(results), len(tasks))
    finally:
        _write_pairs(out)
    kept = [rendering for rendering in current if rendering.midi in library]
    return _report(kept, results, unnamed)


def _jobs(
    library: dict[str, tuple[Path, str]],
    current: Sequence[Rendering],
    out: Path,
    soundfont: Path,
    settings: Settings,
) -> list[_Job]:
    names = _name_audio(library, current, settings.encoding)
    return [
        _Job(library[midi][0], midi, audio, out, soundfont, settings)
        for midi, audio in names.items()
    ]


def _report(
    kept: Sequence[Rendering], results: Sequence[Rendering | BadFile], unnamed: Sequence[BadFile]
) -> RenderReport:
    made = [result for result in results if isinstance(result, Rendering)]
    bad = [*unnamed, *(result for result in results if isinstance(result, BadFile))]
    if not made and not kept:
        raise MmidError(f"no MIDI file that can be rendered; the first fault: {bad[0].reason}")
    seconds = sum(rendering.seconds for rendering in [*made, *kept])
    return RenderReport(len(made), len(kept), seconds, tuple(bad))


def _check_settings(soundfont: Path, sample_rate: int, encoding: str) -> Settings:
    low, high = SAMPLE_RATES
    if not low <= sample_rate <= high:
        raise RenderError(f"cannot render at {sample_rate} Hz, only at {low} to {high} Hz")
    if encoding not in ENCODINGS:
        raise RenderError(f"cannot render to {encoding!r}, only to {' or '.join(ENCODINGS)}")
    try:
        digest = file_digest(soundfont)
    except OSError as error:
        raise RenderError(f"{label(soundfont)}: {error.strerror}") from error
    return Settings(soundfont.name, digest, sample_rate, encoding)


def _find(folders: Sequence[Path], out: Path) -> tuple[dict[str, tuple[Path, str]], list[BadFile]]:
    """Find the MIDI files: by path relative to `out`, the path and the name in the library."""
    folders = [folder.resolve() for folder in folders]  # so that ".." leads where it seems to
    root = library_root(folders)
    library: dict[str, tuple[Path, str]] = {}
    unnamed: list[BadFile] = []
    for path in sorted({path for folder in folders for path in find_midi(folder)}):
        midi, name = (Path(os.path.relpath(path, base)).as_posix() for base in (out, root))
        try:
            midi.encode()
        except UnicodeEncodeError:  # bytes that no list can name
            unnamed.append(BadFile(path, f"{label(path.name)}: its name is not UTF-8"))
        else:
            library[midi] = path, name
    return library, unnamed


def _open(folder: Path, settings: Settings) -> list[Rendering]:
    """Enter or make a folder of renderings, and return those that it holds.

    Raises
    ------
    MmidError
        If it holds something else, or renderings made with other settings.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        empty = not any(folder.iterdir())
    except OSError as error:
        raise MmidError(f"{label(folder)}: not a folder to use ({error.strerror})") from error
    if empty:
        return []
    before, renderings = _read_journal(folder)
    renderings = [r for r in renderings if (folder / r.audio).is_file()]
    different = ", ".join(_differences(before, settings))
    if renderings and different:
        raise MmidError(
            f"{label(folder)}: holds renderings made otherwise: {different}; give these settings"
            " or another --out"
        )
    for killed in folder.rglob(UNFINISHED):
        killed.unlink(missing_ok=True)
    return renderings


def _differences(before: Settings, now: Settings) -> Iterator[str]:
    if before.soundfont_sha256 != now.soundfont_sha256:
        namesake = "another " if before.soundfont == now.soundfont else ""
        yield f"soundfont {label(before.soundfont)} (now {namesake}{label(now.soundfont)})"
    if before.sample_rate != now.sample_rate:
        yield f"sample rate {before.sample_rate} (now {now.sample_rate})"
    if before.encoding != now.encoding:
        yield f"format {before.encoding} (now {now.encoding})"


def _is_current(rendering: Rendering, library: dict[str, tuple[Path, str]], out: Path) -> bool:
    """Return whether a rendering's MIDI file is there and, if this run has it, unchanged."""
    if rendering.midi not in library:
        return (out / rendering.midi).is_file()
    try:
        return file_digest(library[rendering.midi][0]) == rendering.sha256
    except OSError:
        return False


def _name_audio(
    library: dict[str, tuple[Path, str]], current: Sequence[Rendering], encoding: str
) -> dict[str, str]:
    """Name a file for each MIDI file without a current rendering; no two names are alike."""
    rendered = {rendering.midi for rendering in current}
    taken = {rendering.audio.casefold() for rendering in current}
    names = {}
    for midi, (_, name) in library.items():
        if midi in rendered:
            continue
        stem = PurePosixPath(name).with_suffix("")
        stems = chain((f"{stem}", name), (f"{stem} ({number})" for number in count(2)))
        names[midi] = next(
            audio for s in stems if (audio := f"{s}.{encoding}").casefold() not in taken
        )
        taken.add(names[midi].casefold())
    return names


def _render(job: _Job) -> tuple[Rendering | BadFile, str | None]:
    """Render a file; return with it what is damaged in its MIDI."""
    piece = read_piece(job.path, job.path.parent)
    if isinstance(piece, BadFile):
        return piece, None
    if piece.midi.seconds > MAX_SECONDS:
        hours = f"{piece.midi.seconds / 3600:.1f} hours, more than {MAX_SECONDS / 3600:g}"
        return BadFile(job.path, f"{label(job.path.name)}: lasts {hours}"), None
    rate = job.settings.sample_rate
    audio = _play(piece.midi.notes, str(job.soundfont), rate)
    with _whole(job.folder / job.audio) as part:
        write_audio(part, [audio], rate, job.settings.encoding, layout="stereo")
    rendering = Rendering(job.midi, job.audio, piece.digest, len(audio) / rate)
    journal = job.folder / JOURNAL
    with _writing(journal), journal.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(rendering)) + "\n")
    return rendering, piece.midi.damage


def _play(notes: np.ndarray, soundfont: str, sample_rate: int) -> np.ndarray:
    """Play notes on a new synthesizer: one that has played carries traces of it over."""
    _keep_loaded(soundfont, sample_rate)
    with Synthesizer(Path(soundfont), sample_rate) as synthesizer:
        return synthesizer.render(notes, stereo=True)


@lru_cache(maxsize=1)
def _keep_loaded(soundfont: str, sample_rate: int) -> Synthesizer:
    """Hold a soundfont in memory, where fluidsynth finds it for the next synthesizer."""
    return Synthesizer(Path(soundfont), sample_rate)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RenderError(f"{label(path)}: cannot be written ({error.strerror})") from error


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a place to write a file to, which takes its name once it is whole."""
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            yield part


def _write_journal(folder: Path, settings: Settings, renderings: Sequence[Rendering]) -> None:
    header = {"format": FORMAT, "mmid": __version__, **asdict(settings)}
    lines = [json.dumps(line) for line in (header, *map(asdict, renderings))]
    with _whole(folder / JOURNAL) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _read_journal(folder: Path) -> tuple[Settings, list[Rendering]]:
    """Read what `_write_journal` and `_render` wrote; a line that a crash cut short is nothing."""
    try:
        header, *lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines()
        facts = json.loads(header)
        settings = Settings(**{field.name: facts[field.name] for field in fields(Settings)})
        if facts["format"] != FORMAT:
            raise ValueError(facts["format"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MmidError(
            f"{label(folder)}: not empty, and not a folder of renderings of this version of mmid;"
            " choose another --out"
        ) from error
    renderings: dict[str, Rendering] = {}
    for line in lines:
        with suppress(ValueError, TypeError):
            rendering = Rendering(**json.loads(line))
            renderings[rendering.midi] = rendering
    return settings, list(renderings.values())


def _write_pairs(folder: Path) -> None:
    _, renderings = _read_journal(folder)
    renderings.sort(key=lambda r: r.audio)
    rows = [(f"{PurePosixPath(r.audio).with_suffix('')}", r.audio, r.midi) for r in renderings]
    with _whole(folder / PAIRS_NAME) as part:
        write_pairs_list(part, rows)
