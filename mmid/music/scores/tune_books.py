"""ABC files of many tunes: each tune is a piece of its own, as a file is.

Conventions: a tune goes by the path of its book and what follows ``#X:``, its number and title:
``folk/book.abc#X:12 The Swallowtail Jig``. The tune of a book that holds no other goes by the path
of the book. Of what stands before the first tune, every tune gets the fields.
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from mmid.errors import MidiError
from mmid.music.midi_parser import read_bytes
from mmid.music.scores.titles import abc_title
from mmid.system.files import file_digest

BOOK = ".abc"
MARK = "#X:"
BOOK_BYTES = 64 * 2**20
"""Larger books are refused."""

MOST_TUNES = 200_000
_NAMED = re.compile(rf"(.+{re.escape(BOOK)}){MARK}.*", re.IGNORECASE | re.DOTALL)
_START = re.compile(rb"(?m)^X:[ \t]*(\S*)")
_FIELDS = re.compile(rb"(?m)^(?:[ABCDFGHILMNOSUZm]:|%%).*$")  # those that hold for all tunes
_UNFIT = re.compile(r'[/\\\x00-\x1f\x7f<>"|?*]+')  # in names of files, somewhere
_TITLE_CHARS = 80


def file_part(name: str) -> str:
    """Return the name of the file that a piece is in.

    Examples
    --------
    >>> file_part("book.abc#X:12 The Swallowtail Jig"), file_part("a.mid")
    ('book.abc', 'a.mid')
    """
    found = _NAMED.fullmatch(name) if MARK in name else None
    return found[1] if found else name


def file_of(path: Path) -> Path:
    """Return the file that a piece is in."""
    name = file_part(path.name)
    return path if name == path.name else path.with_name(name)


def goes_by(piece: str, name: str) -> bool:
    """Return whether a tune goes by a shorter name: without its title, or its book's.

    Examples
    --------
    >>> tune = "book.abc#X:12 The Swallowtail Jig"
    >>> goes_by(tune, "book.abc#X:12"), goes_by(tune, "book.abc"), goes_by(tune, "book.abc#X:1")
    (True, True, False)
    """
    untitled = MARK in name and piece.startswith(f"{name} ")
    return untitled or piece != name == file_part(piece)


def plain_name(path: Path) -> str:
    """Name a file after a piece, without its suffix.

    Examples
    --------
    >>> plain_name(Path("folk/book.abc#X:12 The Swallowtail Jig"))
    'book-12 The Swallowtail Jig'
    """
    book = file_part(path.name)
    return f"{Path(book).stem}{path.name.removeprefix(book).replace(MARK, '-')}"


def is_book(name: str) -> bool:
    """Return whether a file may hold several tunes, by its name."""
    return name.lower().endswith(BOOK)


def tune_paths(path: Path) -> list[Path]:
    """Return the paths of a book's tunes, in their order; the book's own if that is all."""
    try:
        tunes = _tunes(path)
    except MidiError:
        return [path]  # reading it will say why
    return [path.with_name(f"{path.name}{ending}") for ending in tunes]


def tune_text(path: Path) -> bytes:
    """Return the ABC of a tune, which may be named by its number alone.

    Raises
    ------
    MidiError
        If the book cannot be read or holds no such tune; without a file's name.
    """
    book = file_of(path)
    tunes = _tunes(book)
    ending = path.name.removeprefix(book.name)
    if not ending and ending not in tunes:
        raise MidiError(f"holds {len(tunes)} tunes, not one")
    named = [one for one in tunes if goes_by(one, ending)]
    if ending not in tunes and len(named) != 1:
        raise MidiError(f"{'more than one' if named else 'no'} such tune in {book.name}")
    return tunes[ending if ending in tunes else named[0]]


def piece_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of a tune's text, hexadecimal.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    if not is_book(file_part(path.name)):
        return file_digest(path)
    try:
        return sha256(tune_text(path)).hexdigest()
    except MidiError as error:
        raise OSError(str(error)) from None


def _tunes(book: Path) -> dict[str, bytes]:
    """Return the tunes of a book by the endings of their names."""
    try:
        stat = book.stat()
    except OSError as error:
        raise MidiError(f"cannot be read ({error.strerror})") from None
    except ValueError:
        raise MidiError("not a file name") from None
    return _split(os.fspath(book), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4)
def _split(book: str, size: int, changed: int) -> dict[str, bytes]:
    data = read_bytes(book, BOOK_BYTES).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    starts = [found.start() for found in _START.finditer(data)]
    if not starts:
        raise MidiError("no tune in it: no line begins with X:")
    if len(starts) > MOST_TUNES:
        raise MidiError(f"more than {MOST_TUNES} tunes")
    header = b"".join(line + b"\n" for line in _FIELDS.findall(data[: starts[0]]))
    tunes: dict[str, bytes] = {}
    for start, end in zip(starts, [*starts[1:], len(data)], strict=True):
        number, _, rest = data[start:end].partition(b"\n")
        text = number + b"\n" + header + rest.strip() + b"\n"
        tunes[_ending(text, tunes)] = text
    [first, *others] = tunes.values()
    return tunes if others else {"": first}


def _ending(text: bytes, others: dict[str, bytes]) -> str:
    """Name a tune in its book by its number and title, as no other is."""
    found = _START.match(text)
    number = found[1].decode("ascii", "replace") if found else ""
    title = _UNFIT.sub("-", abc_title(text) or "")[:_TITLE_CHARS].strip()
    plain = f"{MARK}{_UNFIT.sub('-', number)[:_TITLE_CHARS]} {title}".rstrip()
    ending, again = plain, 1
    while ending in others:
        again += 1
        ending = f"{plain} ({again})"
    return ending
