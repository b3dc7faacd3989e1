"""The ASAP set laid out for benchmark B3: a performance of each piece beside its score.

``python -m mmid.evaluation.asap ASAP OUT`` copies the scores to ``OUT/scores`` and one performance
a piece, chosen by the score's hash, to ``OUT/performances``, and lists both in ``OUT/pairs.csv``.
Index ``OUT/scores``; query it with ``mmid eval pieces OUT --soundfont NAME``. With
``--scores-at 2`` the scores are written twice as fast, and the performances are half as fast as
they.

Conventions: a piece's folder holds ``midi_score.mid`` and its performances; its name is the path of
its folder, joined by underscores.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from mmid.errors import MmidError
from mmid.music.midi import read_midi, write_midi
from mmid.music.notes import sped_up
from mmid.music.pairs import PAIRS_NAME, write_pairs_list
from mmid.system.files import file_digest

SCORE_NAME = "midi_score.mid"


def lay_out(asap: Path, out: Path, scores_at: float = 1.0) -> int:
    """Copy scores and performances, and list them.

    Parameters
    ----------
    asap, out : Path
    scores_at : float
        The scores' speed against what it was.

    Returns
    -------
    int
        Pieces.

    Raises
    ------
    MmidError
        If the folder holds no score with a performance beside it.
    """
    rows = []
    for score in sorted(asap.rglob(SCORE_NAME)):
        performances = sorted(p for p in score.parent.glob("*.mid") if p.name != SCORE_NAME)
        if performances:
            rng = np.random.default_rng([0, int(file_digest(score)[:12], 16)])
            name = "_".join(score.parent.relative_to(asap).parts)
            played = performances[int(rng.integers(len(performances)))]
            rows.append((name, played, score))
    if not rows:
        raise MmidError(f"{asap}: no {SCORE_NAME} with a performance beside it")
    for part in ("performances", "scores"):
        (out / part).mkdir(parents=True, exist_ok=True)
    pairs = []
    for name, played, score in rows:
        pairs.append((name, f"performances/{name}.mid", f"scores/{name}.mid"))
        shutil.copyfile(played, out / pairs[-1][1])
        _copy_score(score, out / pairs[-1][2], scores_at)
    write_pairs_list(out / PAIRS_NAME, pairs)
    return len(rows)


def _copy_score(score: Path, target: Path, speed: float) -> None:
    if speed == 1:
        shutil.copyfile(score, target)
        return
    write_midi(sped_up(read_midi(score).notes, speed), target)


def main(
    asap: Annotated[Path, typer.Argument(help="The unpacked ASAP set, or a part of it.")],
    out: Annotated[Path, typer.Argument(help="Folder to fill.")],
    scores_at: Annotated[
        float, typer.Option(min=0.1, max=10, help="Write the scores so many times as fast.")
    ] = 1.0,
) -> None:
    """Lay out the ASAP set for benchmark B3."""
    typer.echo(f"{lay_out(asap, out, scores_at)} pieces in {out}")


if __name__ == "__main__":
    typer.run(main)
