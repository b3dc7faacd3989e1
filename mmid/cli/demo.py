"""The packaged demo: a small library of tunes, and a recording of one of them to identify."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from mmid.errors import MmidError

DEMO = files("mmid") / "assets" / "demo"


def write_library(folder: Path) -> list[Path]:
    """Copy the packaged tunes, MIDI files named after them, such as ``greensleeves.mid``.

    Parameters
    ----------
    folder : Path
        Where to write; made if missing.

    Returns
    -------
    list of Path
        The files, by name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tunes = sorted((DEMO / "library").iterdir(), key=lambda tune: tune.name)
    for tune in tunes:
        (folder / tune.name).write_bytes(tune.read_bytes())
    return [folder / tune.name for tune in tunes]


def prepare_demo(folder: Path) -> tuple[Path, Path]:
    """Lay out the demo's library of MIDI files and its recording.

    Parameters
    ----------
    folder : Path
        Where to write; made if missing.

    Returns
    -------
    library : Path
        Folder of the MIDI files.
    recording : Path
        About 15 s of one of the tunes, the Swallowtail Jig.

    Raises
    ------
    MmidError
        If the folder cannot be written to.
    """
    library, recording = folder / "library", folder / "recording.ogg"
    try:
        write_library(library)
        recording.write_bytes((DEMO / recording.name).read_bytes())
    except OSError as error:
        raise MmidError(f"cannot prepare the demo in {folder}: {error}") from error
    return library, recording
