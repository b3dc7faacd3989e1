"""A light roll pathway, taught to embed as a model's own does.

``python -m mmid.training.distillation data/nottingham --extra data/pop909 --out light.safetensors``
writes the model with its new pathway: indexes are built in a fraction of the time, and the audio
pathway stays as it is, or is the same one (``--share``): transcribed notes and written ones are
the same kind of roll. No sound is needed: piano rolls in other keys and at other tempi are shown to
both pathways. Tunes kept for validation and tests, and what is the same music, are left out, as
`mmid train` does.

References
----------
.. [1] G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from mmid.errors import MmidError
from mmid.model.checkpoint import Checkpoint, save_checkpoint
from mmid.model.encoders import Encoders
from mmid.model.loading import load_model
from mmid.model.pathways import LIGHT, EncoderConfig, build_pathway
from mmid.model.precision import Network, settle
from mmid.music.duplicates import drop_duplicates, split_library
from mmid.music.grid import DEFAULT, FeatureParams
from mmid.music.library import read_library
from mmid.music.piano_roll import draw_rolls
from mmid.system.console import ProgressCallback, quiet
from mmid.system.console import progress as show_progress

STEPS = 12_000

ROLLS = (DEFAULT.roll_channels, DEFAULT.hop, DEFAULT.snippet)
"""What the light pathway is made for."""

BATCH, FRAMES = 8, 512
"""Rolls a step, and how long they are."""

LEARNING_RATE, DECAY, RISE = 2e-3, 1e-2, 300
"""Of AdamW; the rate rises for so many steps and falls along a cosine."""

STRETCH, SEMITONES, OUTSIDE = 0.5, 7, 60
"""Octaves of tempo (a standard deviation), semitones either way, and frames before and after."""

LONG_COUNT = 0.75
"""Pieces are drawn in proportion to this power of their lengths."""

JUDGED = 5_000
"""Snippets looked for among all others, to judge with."""

SAME = 0.99
"""Cosine of the old pathway from which on two snippets are the same music."""


def draw_batch(
    notes: Sequence[np.ndarray],
    shares: np.ndarray,
    params: FeatureParams,
    rng: np.random.Generator,
) -> Tensor:
    """Draw rolls of random passages, in another key and at another tempo each.

    Parameters
    ----------
    notes : sequence of np.ndarray of mmid.music.notes.NOTE_DTYPE
        Pieces.
    shares : np.ndarray [pieces]
        How often each is drawn.
    params : FeatureParams
    rng : np.random.Generator

    Returns
    -------
    Tensor [BATCH, channels, pitches, FRAMES] float32
    """
    drawn = []
    for number in range(BATCH):
        piece = notes[rng.choice(len(notes), p=shares)]
        rate = params.frame_rate * 2 ** rng.normal(0, STRETCH)
        semitones = int(rng.integers(-SEMITONES, SEMITONES + 1))
        onset, offset = piece["onset"] * rate, piece["offset"] * rate
        last = max(0, offset.max() - FRAMES + OUTSIDE)
        first = rng.uniform(-OUTSIDE, last)
        pitch = piece["pitch"].astype(np.int64) + semitones
        inside = (offset - first > -2) & (onset - first < FRAMES + 2)
        inside &= (pitch >= 0) & (pitch < params.pitches)
        moments = onset[inside] - first, offset[inside] - first
        drawn.append((np.full(inside.sum(), number), *moments, pitch[inside]))
    sides = [torch.from_numpy(np.concatenate(side)) for side in zip(*drawn, strict=True)]
    owners, onsets, offsets, pitches = sides
    return draw_rolls(owners, onsets.float(), offsets.float(), pitches, BATCH, FRAMES, params)


def with_onsets(rolls: Tensor, params: FeatureParams) -> Tensor:
    """Return which snippets of rolls hold an onset: bool ``[batch, snippets]``."""
    onsets = rolls[:, 1].amax(1, keepdim=True)
    return nn.functional.max_pool1d(onsets, params.snippet, math.prod(LIGHT.strides))[:, 0] > 0


def teach(
    model: Checkpoint,
    notes: Sequence[np.ndarray],
    steps: int = STEPS,
    seed: int = 0,
    progress: ProgressCallback = quiet,
) -> Encoders:
    """Teach a light pathway to embed as a model's roll pathway does.

    Parameters
    ----------
    model : Checkpoint
    notes : sequence of np.ndarray of mmid.music.notes.NOTE_DTYPE
        Pieces to learn from.
    steps : int
    seed : int
        Of the weights to begin with and every draw.
    progress : callable
        Called with ``(what, done, total)``.

    Returns
    -------
    Encoders
        The model's, in evaluation mode, with the light pathway in place of its own.

    Raises
    ------
    MmidError
        If the model's rolls are not the default ones, for which the light pathway is made.
    """
    params, device = model.encoders.config.features, model.encoders.device
    if (params.roll_channels, params.hop, params.snippet) != ROLLS:
        raise MmidError("the light pathway is made for the default rolls; give another --model")
    teacher = model.encoders.roll
    shape = replace(LIGHT, embedding=model.encoders.config.roll.embedding)
    light = _student(teacher, shape, params, seed).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    shown = Network(light, params.roll_channels, params.pitches, params.snippet)
    precision = settle([*model.encoders.networks(), shown], device, learning=True)
    optimizer = torch.optim.AdamW(light.parameters(), LEARNING_RATE, weight_decay=DECAY)
    lengths = np.array([piece["offset"].max() for piece in notes]) ** LONG_COUNT
    rng = np.random.default_rng(seed + 1)
    loss = 1.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = _learning_rate(step, steps)
        rolls = draw_batch(notes, lengths / lengths.sum(), params, rng).to(device)
        with precision.autocast():
            with torch.no_grad():
                wanted = teacher(rolls)
            cosine = (wanted * light(rolls)).sum(-1)
        now = (1 - cosine)[with_onsets(rolls, params)].mean()
        optimizer.zero_grad()
        now.backward()
        optimizer.step()
        loss += (now.item() - loss) * max(0.005, 1 / (step + 1))
        progress(f"Teaching ({loss:.4f})", step + 1, steps)
    return _with_roll(model.encoders, shape, light)


def _student(
    teacher: nn.Module, shape: EncoderConfig, params: FeatureParams, seed: int
) -> nn.Module:
    """Return a light pathway of random weights that levels its input as the teacher does."""
    torch.manual_seed(seed)
    light = build_pathway(params.roll_channels, params.pitches, params.snippet, shape)
    own = getattr(teacher, "pathway", teacher).state_dict()
    light.load_state_dict({n: t for n, t in own.items() if n.startswith("level.")}, strict=False)
    return light


def _learning_rate(step: int, steps: int) -> float:
    fall = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return LEARNING_RATE * (min(1, (step + 1) / RISE) * fall + 1e-3)


def share(encoders: Encoders) -> Encoders:
    """Return encoders whose roll pathway takes the place of the audio one, too.

    What a transcriber gives is a roll like a written one, so that one pathway can embed both.

    Raises
    ------
    MmidError
        If the audio pathway takes no notes.
    """
    if encoders.transcriber is None:
        raise MmidError("the audio pathway of a model without a transcriber takes no notes")
    shared = Encoders(replace(encoders.config, audio=encoders.config.roll))
    kept = {n: t for n, t in encoders.state_dict().items() if not n.startswith("audio.")}
    roll = {n: t for n, t in kept.items() if n.startswith("roll.")}
    copied = {"audio." + name.removeprefix("roll."): tensor for name, tensor in roll.items()}
    shared.load_state_dict(shared.state_dict() | kept | copied)
    return shared.to(encoders.device).eval()


def _with_roll(encoders: Encoders, shape: EncoderConfig, light: nn.Module) -> Encoders:
    """Return encoders with another roll pathway; a projection after it is the identity."""
    light_one = Encoders(replace(encoders.config, roll=shape))
    kept = {n: t for n, t in encoders.state_dict().items() if not n.startswith("roll.")}
    place = "roll.pathway." if encoders.config.cca else "roll."
    taught = {place + name: tensor for name, tensor in light.state_dict().items()}
    light_one.load_state_dict(light_one.state_dict() | kept | taught)
    return light_one.to(encoders.device).eval()


@dataclass(frozen=True)
class Likeness:
    """How alike two roll pathways embed pieces that neither was taught with.

    Parameters
    ----------
    snippets : int
    cosine : float
        Mean cosine of a snippet's two embeddings.
    worst : float
        One in a hundred is lower.
    recall : float
        Share of snippets, embedded by the light pathway, that are found among all by the other.
    same : float
        Share for which what is found is the same music.
    """

    snippets: int
    cosine: float
    worst: float
    recall: float
    same: float


def _embedded(roll: Tensor, model: Encoders) -> Tensor:
    with model.autocast():
        embedded: Tensor = model.roll(roll.to(model.device)).float().cpu()
    return embedded


@torch.inference_mode()
def compare(old: Encoders, new: Encoders, notes: Sequence[np.ndarray]) -> Likeness:
    """Compare the roll pathways of two models on the beginnings of pieces."""
    params, sides = old.config.features, []
    for piece in notes:
        rate = params.frame_rate
        onset, offset = (torch.from_numpy(piece[n] * rate).float() for n in ("onset", "offset"))
        pitch = torch.from_numpy(piece["pitch"].astype(np.int64))
        roll = draw_rolls(torch.zeros_like(pitch), onset, offset, pitch, 1, FRAMES, params)
        kept = with_onsets(roll, params)
        sides.append(torch.stack([_embedded(roll, model)[kept] for model in (new, old)]))
    light, plain = torch.cat(sides, 1)
    cosine = (light * plain).sum(1)
    some = torch.randperm(len(light), generator=torch.Generator().manual_seed(0))[:JUDGED]
    found = torch.cat([(light[part] @ plain.T).argmax(1) for part in torch.split(some, 500)])
    same = (plain[found] * plain[some]).sum(1) > SAME
    return Likeness(
        len(light),
        float(cosine.mean()),
        float(cosine.quantile(0.01)),
        float((found == some).float().mean()),
        float(same.float().mean()),
    )


def main(
    library: Annotated[Path, typer.Argument(help="A folder of MIDI files; a part is held out.")],
    out: Annotated[Path, typer.Option(help="The safetensors file to write.")],
    extra: Annotated[list[Path] | None, typer.Option(help="More, to learn from only.")] = None,
    model: Annotated[str | None, typer.Option(help="Whose pathway to imitate.")] = None,
    steps: Annotated[
        int, typer.Option(min=0, help="Batches of rolls; 0 keeps the roll pathway.")
    ] = STEPS,
    shared: Annotated[
        bool, typer.Option("--share", help="Let the roll pathway embed transcribed notes, too.")
    ] = False,
) -> None:
    """Teach a model a light roll pathway, and print how like the old one it embeds."""
    teacher = load_model(model)
    sides = split_library(read_library([library])[0])
    more = [piece for folder in extra or () for piece in read_library([folder])[0]]
    learned = [*sides["train"], *drop_duplicates(more, sides["valid"] + sides["test"])]
    light = teacher.encoders
    if steps:
        with show_progress() as advance:
            light = teach(teacher, [piece.midi.notes for piece in learned], steps, progress=advance)
    if shared:
        light = share(light)
    likeness = compare(teacher.encoders, light, [piece.midi.notes for piece in sides["valid"]])
    facts = {"teacher": teacher.fingerprint, "pieces": len(learned), "steps": steps}
    save_checkpoint(out, light, teacher.facts | {"distilled": facts | asdict(likeness)})
    typer.echo(json.dumps(asdict(likeness)))


if __name__ == "__main__":
    typer.run(main)
