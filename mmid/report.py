"""Results as text: lines, tables and JSON."""

from __future__ import annotations

from mmid.train import Epoch


def describe_epoch(epoch: Epoch) -> str:
    """Return an epoch's figures as one line."""
    forth, back = epoch.audio_to_midi, epoch.midi_to_audio
    return (
        f"epoch {epoch.epoch:3d}  loss {epoch.loss:.3f}"
        f"  R@1 {forth.recall[1]:.1%} / {back.recall[1]:.1%}  MRR {forth.mrr:.1%} / {back.mrr:.1%}"
        f"  {epoch.pairs_per_second:.0f} pairs/s{'  best' if epoch.best else ''}"
    )
