"""Clips of kinds of music as mixtures: who plays what, how loud, in which room.

``python -m mmid.research.mixtures FOLDERS --out OUT --kind song`` renders clips of MIDI files and
lays out a folder that ``mmid eval pieces OUT --index INDEX`` measures as it is, kind by kind:

- ``audio/*.flac``: the clips;
- ``notes/*.mid``: what sounds in each, drums aside, in the clip's time (targets for onset F1);
- ``scores/*``: the whole MIDI files, copied;
- ``pairs.csv``: id, audio, midi and kind.

Conventions: times in seconds; a clip keeps its score's key, but not its tempo and instruments;
drums play grooves that are in no score; every draw depends on the seed, the kind and the number of
the clip, so that one machine makes the same files again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mmid.errors import MmidError, label
from mmid.music.audio_writer import write_audio
from mmid.music.folders import find_all
from mmid.music.midi import write_midi
from mmid.music.mixing.ensembles import ENSEMBLES
from mmid.music.mixing.mixture import Mixture, complete_ones, mix
from mmid.music.mixing.recording import SAMPLE_RATE
from mmid.music.mixing.scores import read_score
from mmid.music.notes import NOTE_DTYPE, clipped
from mmid.music.pairs import PAIRS_NAME, write_pairs_list
from mmid.music.synthesizer import Synthesizer, pick_soundfonts
from mmid.system.console import ProgressCallback, progress, quiet, warn
from mmid.system.files import file_digest, written_whole


def write_mixtures(
    folders: Sequence[Path],
    out: Path,
    kinds: Sequence[str] = tuple(ENSEMBLES),
    *,
    count: int = 90,
    seconds: float = 10.0,
    seed: int = 0,
    soundfonts: Sequence[str] | None = None,
    advance: ProgressCallback = quiet,
) -> int:
    """Render clips of kinds of music and lay out the folder that this module describes.

    Parameters
    ----------
    folders : sequence of Path
        Of MIDI files.
    out : Path
        A new or empty folder; its list comes last, when all clips are there.
    kinds : sequence of str
    count : int
        Clips of each kind.
    seconds : float
        Of each clip.
    seed : int
    soundfonts : sequence of str, optional
        Names or paths; all those installed if not given.
    advance : callable
        Gets the progress.

    Returns
    -------
    int
        Clips.

    Raises
    ------
    MmidError
        If a kind is unknown, no file can be used, `out` holds something, or fluidsynth or a
        soundfont is missing.
    """
    unknown = sorted(set(kinds) - set(ENSEMBLES))
    if unknown:
        raise MmidError(f"no kind {label(unknown[0])!r}: there are {', '.join(ENSEMBLES)}")
    files, fonts = find_all(folders, "midi"), pick_soundfonts(soundfonts)
    _make_folders(out)
    rows = []
    with ExitStack() as stack:
        all_synths = [stack.enter_context(Synthesizer(font, SAMPLE_RATE)) for font in fonts]
        synths = complete_ones(all_synths)
        for kind in dict.fromkeys(kinds):
            for number, (path, mixture) in enumerate(
                _draw_mixtures(files, kind, synths, count, seconds, seed)
            ):
                rows.append(_write_clip(out, f"{kind}-{number:03d}", kind, path, mixture))
                advance(kind, number + 1, count)
    with written_whole(out / PAIRS_NAME) as part:
        write_pairs_list(part, rows, ("kind",))
    return len(rows)


def _make_folders(out: Path) -> None:
    try:
        if out.exists() and any(out.iterdir()):
            raise MmidError(f"{label(out)}: not empty; choose another --out")
        for name in ("audio", "notes", "scores"):
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MmidError(f"{label(out)}: cannot be written ({error.strerror})") from error


def _draw_mixtures(
    files: Sequence[Path],
    kind: str,
    synthesizers: Sequence[Synthesizer],
    count: int,
    seconds: float,
    seed: int,
) -> Iterator[tuple[Path, Mixture]]:
    """Go through the files in a drawn order, again and again, until there are enough clips."""
    own = [seed, list(ENSEMBLES).index(kind)]
    usable = [files[i] for i in np.random.default_rng(own).permutation(len(files))]
    clip = 0
    while clip < count:
        good: list[Path] = []
        for path in usable:
            try:
                score = read_score(path)
            except MmidError as error:
                warn(f"{error}; left out")
                continue
            rng = np.random.default_rng([*own, clip])
            mixture = mix(score, kind, synthesizers, seconds, rng)
            if mixture is not None and len(mixture.notes):
                yield path, mixture
                clip, good = clip + 1, [*good, path]
                if clip == count:
                    return
        if not good:
            raise MmidError(f"no MIDI file has enough notes for a clip of {kind}")
        usable = good


def _write_clip(out: Path, name: str, kind: str, path: Path, mixture: Mixture) -> tuple[str, ...]:
    """Write a clip's files; return its row of the list."""
    score = f"scores/{path.stem[:100]}-{file_digest(path)[:8]}{path.suffix}"
    shutil.copyfile(path, out / score)
    audio = f"audio/{name}.flac"
    write_audio(out / audio, [mixture.audio], SAMPLE_RATE, "flac")
    notes = mixture.notes[list(NOTE_DTYPE.names or ())].astype(NOTE_DTYPE)
    end = len(mixture.audio) / SAMPLE_RATE
    write_midi(clipped(notes, 0, end), out / "notes" / f"{name}.mid")
    return name, audio, score, kind


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders of MIDI files.")],
    out: Annotated[Path, typer.Option(help="Folder to fill, new or empty.")],
    kind: Annotated[
        list[str] | None, typer.Option(help=f"Of {', '.join(ENSEMBLES)}; all if not given.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Clips of each kind.")] = 90,
    seconds: Annotated[float, typer.Option(min=1.0, max=600.0, help="Of each clip.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Of everything drawn.")] = 0,
    soundfont: Annotated[
        list[str] | None, typer.Option(help="Name or path; all those installed if not given.")
    ] = None,
) -> None:
    """Render clips of kinds of music as mixtures, with their scores and notes."""
    try:
        with progress() as advance:
            written = write_mixtures(
                folders,
                out,
                kind or tuple(ENSEMBLES),
                count=count,
                seconds=seconds,
                seed=seed,
                soundfonts=soundfont,
                advance=advance,
            )
    except MmidError as error:
        typer.echo(f"mmid: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo(f"{written} clips in {out}")


if __name__ == "__main__":
    typer.run(main)
