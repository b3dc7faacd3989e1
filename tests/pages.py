"""Pages of answers that tests write and read."""

from __future__ import annotations

from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mmid.identify.answer import Identification, Match
from mmid.identify.batch import Answered
from mmid.identify.identifier import Identifier
from mmid.output.page.page import Page

HOSTILE = "<img src=x onerror=alert(1)> \"'\n\u202e&amp;"
CLOSING = "</script><script>alert(2)</script></tbody><svg onload=alert(3)>"


class Parsed(HTMLParser):
    """A page's elements as ``(name, attributes)``, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, name: str, **attributes: str) -> list[dict[str, str | None]]:
        return [
            found
            for tag, found in self.elements
            if tag == name and all(found.get(key) == value for key, value in attributes.items())
        ]


def write_page(path: Path, identifier: Identifier, answers: list[Answered]) -> str:
    page = Page(path, identifier)
    for answered in answers:
        page.take(answered)
    page.close()
    return path.read_text(encoding="utf-8")


def answer_of(name: str, piece: str = "a.mid", **changes: Any) -> Answered:
    match = Match(piece, 0.9, 0.5, None, 0.3, 0.4, 1.0, 9.0, 1.0, 0, (piece,))
    return Answered(replace(Identification(name, 8.0, True, (match,)), **changes))
