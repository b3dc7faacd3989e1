"""Prints how easily each document reads: python docs/site/readability.py.

Needs textstat. The first column is Flesch's reading ease: above 60 is plain English, below 30 is
hard. Code, tables, headings and the targets of links are left out; an item of a list counts as a
sentence. The exit status is 1 if a page is below `LEAST`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import textstat

ROOT = Path(__file__).parents[2]
LEAST = 55.0
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


def main() -> int:
    """Print the reading ease of README and of every page; return the exit status."""
    hard = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        sentences = prose(text)
        ease = textstat.flesch_reading_ease(sentences)
        length = textstat.lexicon_count(sentences) / textstat.sentence_count(sentences)
        print(f"{path.stem:20} {ease:5.1f} {length:5.1f} words a sentence")
        hard += ease < LEAST
    return int(hard > 0)


if __name__ == "__main__":
    sys.exit(main())
