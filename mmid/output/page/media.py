"""What a page shows beside the numbers of an answer: the sound, the passage found, a picture."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO

from mmid.errors import MmidError
from mmid.identify.batch import Answered
from mmid.identify.identifier import Identifier
from mmid.output.evidence import Picture, gather_evidence
from mmid.output.page.mp3_clip import MEDIA_TYPE, encode_clip
from mmid.output.page.piano_roll_svg import Roll, draw_roll
from mmid.system.tables import clock

CLIP_SECONDS = 60.0
"""Of a recording, so much from where it was cut can be played, and its passage shown."""

COLOURS = 128
"""Of a picture in a page: a third of the bytes, and no difference to see."""


UNSEEN = "No sound, notes or picture: the first minute alone does not show the piece."
"""Of a piece in a recording that was followed."""


@dataclass(frozen=True)
class Exhibit:
    """What speaks for an answer, ready for a page.

    Parameters
    ----------
    sound, picture : str or None
        ``data:`` addresses of an MP3 and a PNG file.
    roll : Roll or None
        The passage found.
    remarks : tuple of str
        What is not there and why, a line each.
    """

    sound: str | None = None
    picture: str | None = None
    roll: Roll | None = None
    remarks: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes it takes in a page, about."""
        roll = self.roll
        drawn = len(roll.notes) + len(str((roll.query, roll.piece))) if roll else 0
        return len(self.sound or "") + len(self.picture or "") + drawn


def prepare_exhibit(identifier: Identifier, answered: Answered, start: float) -> Exhibit:
    """Gather what speaks for an answer; what cannot be had is named in its stead.

    Parameters
    ----------
    identifier : Identifier
        That gave the answer.
    answered : Answered
    start : float
        Where the query begins in its file, seconds.
    """
    evidence = gather_evidence(identifier, answered)
    if evidence is None:
        return Exhibit(remarks=(UNSEEN,) if answered.at else ())
    remarks: list[str] = []
    seconds = min(evidence.answer.seconds, CLIP_SECONDS)
    sound = _sound(evidence, start, seconds, remarks)
    roll = draw_roll(evidence.passage, seconds) if evidence.passage else None
    if evidence.passage and not roll:
        remarks.append("No piano roll: no notes are known of the passage found.")
    if seconds < evidence.answer.seconds:
        whole = clock(evidence.answer.seconds)
        remarks.append(f"Sound and notes are those of the first {clock(seconds)} of {whole}.")
    return Exhibit(sound, _picture(evidence, remarks), roll, tuple(remarks))


def _sound(evidence: Picture, start: float, seconds: float, remarks: list[str]) -> str | None:
    if evidence.query.kind == "midi":
        remarks.append("No sound: the query is a MIDI file.")
        return None
    try:
        return _address(MEDIA_TYPE, encode_clip(evidence.answer.query, start, seconds))
    except MmidError as error:
        remarks.append(f"No sound: {error}")
        return None


def _picture(evidence: Picture, remarks: list[str]) -> str | None:
    try:
        return _address("image/png", _smaller(evidence.png))
    except MmidError as error:
        remarks.append(f"No picture: {error}")
        return None


def _smaller(picture: bytes) -> bytes:
    """Return a picture with fewer colours."""
    from PIL import Image

    file = BytesIO()
    with Image.open(BytesIO(picture)) as image:
        plain = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        plain.save(file, "PNG", optimize=True)
    return file.getvalue()


def _address(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{b64encode(data).decode()}"
