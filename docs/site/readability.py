"""Prints how easily each document reads: python docs/site/readability.py.

Needs textstat, tested with version 0.7.8. The first column is Flesch's reading ease: above 60 is
plain English, below 30 is hard. Code, tables, headings and the targets of links are left out; an
item of a list counts as a sentence.
"""

from __future__ import annotations

import re
from pathlib import Path

import textstat

ROOT = Path(__file__).parents[2]
BLOCKS = re.compile(r"^ *```.*?^ *```|^---.*?^---|<!--.*?-->", re.M | re.S)
NOT_PROSE = re.compile(r"^(#.*|\|.*|!\[.*|:::.*| +options:.*)$", re.M)
LINK = re.compile(r"!?\[([^]]*)\]\([^)]*\)")
ITEM = re.compile(r"^ *(?:[-*]|\d+\.) +", re.M)


def prose(text: str) -> str:
    """Return the sentences of a document in Markdown."""
    text = LINK.sub(r"\1", NOT_PROSE.sub("", BLOCKS.sub("", text)))
    text = ITEM.sub("\n\n", re.sub(r"`[^`]*`|[*_]{1,2}|(?<=\d)\.(?=\d)", "", text))
    paragraphs = (" ".join(part.split()) for part in text.split("\n\n"))
    return " ".join(p if p[-1] in ".!?" else p.rstrip(":;,") + "." for p in paragraphs if p)


def main() -> None:
    """Print the reading ease of README and of every page."""
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        sentences = prose(text)
        ease = textstat.flesch_reading_ease(sentences)
        length = textstat.lexicon_count(sentences) / textstat.sentence_count(sentences)
        wide = sum(len(line) > 120 for line in text.splitlines())
        print(f"{path.stem:20} {ease:5.1f} {length:5.1f} words a sentence {wide:4} wide lines")


if __name__ == "__main__":
    main()
