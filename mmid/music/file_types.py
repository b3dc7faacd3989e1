"""What a file is that is not what it was taken for, by its first bytes, and the way out."""

from __future__ import annotations

import os
import re
from contextlib import suppress

HEAD = 512
"""Bytes that show a file's kind."""

_MOST_BOXES = 10_000

_POINTER = "this is a Git LFS pointer, not the file itself: run git lfs pull"
_PAGE = "this is an HTML page, not the file itself: download it again"
_MAC = "this holds a Mac's notes on a file, not the file itself"

_OTHERS = (
    (rb"version https://git-lfs", _POINTER),
    (rb"(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|body|title)\b", _PAGE),
    (rb"\0\x05\x16[\0\x07]", _MAC),
    (rb"PK(?:\x03\x04|\x05\x06)", "this is a zip archive, not {}: unpack it"),
    (rb"\x1f\x8b", "this is a gzip archive, not {}: unpack it with gunzip"),
    (rb"BZh[1-9]1AY&SY", "this is a bzip2 archive, not {}: unpack it with bunzip2"),
    (rb"\xfd7zXZ\0", "this is an xz archive, not {}: unpack it with unxz"),
    (rb"\x28\xb5\x2f\xfd", "this is a Zstandard archive, not {}: unpack it with unzstd"),
    (rb"7z\xbc\xaf\x27\x1c", "this is a 7-Zip archive, not {}: unpack it"),
    (rb"Rar!\x1a\x07", "this is a RAR archive, not {}: unpack it"),
    (rb".{257}ustar", "this is a tar archive, not {}: unpack it"),
    (rb"%PDF-", "this is a PDF document, not {}"),
    (rb"(?:\xef\xbb\xbf)?\s*<\?xml\b", "this is an XML file, not {}"),
    (rb"\x89PNG\r\n|\xff\xd8\xff|GIF8[79]a", "this is a picture, not {}"),
)
_MIDI = (rb"MThd|RIFF.{4}RMID", "this is a MIDI file, not {}: name it .mid")
_SOUNDS = (
    (rb"RIFF.{4}WAVE|RF64.{4}WAVE", "WAV"),
    (rb"fLaC", "FLAC"),
    (rb"OggS", "Ogg"),
    (rb".{4}ftyp(?:M4A|M4B|mp4|isom|iso\d|3gp|qt  )", "MP4"),
    (rb"FORM.{4}AIF[FC]", "AIFF"),
    (rb"\x1a\x45\xdf\xa3", "Matroska"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "WMA"),
    (rb"caff\0", "CAF"),
)


def name_kind(head: bytes, wanted: str) -> str | None:
    """Say what a file is, if its first bytes are those of something else than was wanted.

    Parameters
    ----------
    head : bytes
        The first `HEAD` bytes, or more.
    wanted : str
        ``a MIDI file`` or ``an audio file``.

    Returns
    -------
    str or None
        A line that says what it is and how to go on.
    """
    others = _OTHERS if "MIDI" in wanted else (*_OTHERS, _MIDI)
    for pattern, text in others:
        if _begins(head, pattern):
            return text.format(wanted)
    sound = sound_kind(head)
    return f"this is a sound of kind {sound}, not {wanted}" if "MIDI" in wanted and sound else None


def sound_kind(head: bytes) -> str | None:
    """Name the container of sound that a file begins as."""
    return next((kind for pattern, kind in _SOUNDS if _begins(head, pattern)), None)


def read_head(path: str | os.PathLike[str]) -> bytes:
    """Read the first bytes of a file.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(HEAD)


def why_closed(path: str | os.PathLike[str]) -> str:
    """Say why a file of sound does not open."""
    kind = sound_kind(read_head(path))
    if kind == "MP4" and not _has_box(path, b"moov"):
        return "the recording was not finished, or only a part was copied: its index is missing"
    if kind:
        return f"a damaged {kind} file, or of a kind that cannot be read"
    return "not an audio file that can be read"


def _has_box(path: str | os.PathLike[str], name: bytes) -> bool:
    """Look for a box of an MP4 file among the outermost."""
    with suppress(OSError), open(path, "rb") as file:
        for _ in range(_MOST_BOXES):
            box = file.read(16)
            if box[4:8] == name:
                return True
            size = int.from_bytes(box[:4], "big")
            size = int.from_bytes(box[8:], "big") if size == 1 else size
            if len(box) < 8 or size < 8:
                return False
            file.seek(size - len(box), os.SEEK_CUR)
    return False


def _begins(head: bytes, pattern: bytes) -> bool:
    return re.match(pattern, head[:HEAD], re.DOTALL | re.IGNORECASE) is not None
