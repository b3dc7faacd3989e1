"""Titles and composers as score files give them, by patterns in their text."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

TITLE_CHARS = 200
"""A title is cut there."""

_HEAD = 1 << 18  # characters: what says who wrote what comes first
_ABC = (rb"(?m)^T:[ \t]*([^\r\n%]+)", rb"(?m)^C:[ \t]*([^\r\n%]+)")
_XML = {
    "title": (
        r"<work-title>([^<]+)<",
        r'<metaTag name="workTitle">([^<]+)<',
        r"<title\b[^>]*>\s*([^<]+)<",
    ),
    "movement": (
        r"<movement-title>([^<]+)<",
        r'<metaTag name="movementTitle">([^<]+)<',
    ),
    "composer": (
        r'<creator type="composer">([^<]+)<',
        r'<metaTag name="composer">([^<]+)<',
        r"<composer>\s*(?:<persName[^>]*>)?\s*([^<]+)<",
        r'<persName[^>]*role="(?:composer|cmp)"[^>]*>([^<]+)<',
    ),
}
_KERN = {"title": (r"(?m)^!!!OTL[^:]*:\s*(.+)$",), "composer": (r"(?m)^!!!COM[^:]*:\s*(.+)$",)}
_NOBODY = re.compile(r"(trad|anon)\w*\b.*|unknown|composer|\W*", re.IGNORECASE)
_PLACEHOLDER = re.compile(r"untitled.*|title|new score|music21.*|\W*", re.IGNORECASE)


def text_of(data: bytes) -> str:
    """Decode text of a score: Unicode by its mark, else UTF-8, else Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def xml_title(text: str) -> str | None:
    """Return the title of a MusicXML, MEI or MuseScore file, and who wrote it if that is said."""
    return _title(text[:_HEAD], _XML)


def kern_title(text: str) -> str | None:
    """Return the title of a Humdrum file, and who wrote it if that is said."""
    return _title(text[:_HEAD], _KERN)


def abc_title(text: bytes) -> str | None:
    """Return the first title of a tune."""
    found = re.search(_ABC[0], text)
    return clean(text_of(found[1])) or None if found else None


def abc_credit(text: bytes) -> str | None:
    """Return the title of a tune, and who wrote it if that is said."""
    found = re.search(_ABC[1], text)
    return credited(abc_title(text), clean(text_of(found[1])) if found else None)


def _title(text: str, patterns: Mapping[str, tuple[str, ...]]) -> str | None:
    names = ("title", "movement", "composer")
    title, movement, composer = (_first(text, patterns.get(name, ())) for name in names)
    if title and movement and movement not in title:
        title = f"{title}: {movement}"
    return credited(title or movement, composer)


def _first(text: str, patterns: tuple[str, ...]) -> str | None:
    found = (match[1] for pattern in patterns for match in re.finditer(pattern, text))
    return next(filter(None, map(clean, found)), None)


def clean(text: str) -> str:
    r"""Put a title on one line of bounded length, without what XML needs or nobody can see.

    Examples
    --------
    >>> clean("The Cat &amp;\n \x1b Fiddle")
    'The Cat & Fiddle'
    """
    seen = "".join(c for c in html.unescape(text) if c.isprintable() or c.isspace())
    return " ".join(seen.split())[:TITLE_CHARS]


def credited(title: str | None, composer: str | None) -> str | None:
    """Put a composer behind a title; names of nobody and placeholders count as nothing.

    Examples
    --------
    >>> credited("Die Forelle", "Franz Schubert")
    'Die Forelle (Franz Schubert)'
    >>> credited("The Swallowtail Jig", "Trad.")
    'The Swallowtail Jig'
    """
    if not title or _PLACEHOLDER.fullmatch(title):
        return None
    if not composer or _NOBODY.fullmatch(composer) or composer in title:
        return title
    return f"{title} ({composer})"
