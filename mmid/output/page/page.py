"""A batch of answers as one HTML page that needs nothing else: no network, no other file.

Conventions: what comes from outside (names, titles, errors) goes through `mmid.errors.label` and
Jinja's escaping; a content security policy lets the page run its own script only, and load nothing
but what it holds. The same answers make the same page.
"""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryFile

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mmid.errors import label
from mmid.identify.batch import Answered, Sink
from mmid.identify.identifier import Identifier
from mmid.output.answers import own_title
from mmid.output.page.media import CLIP_SECONDS, Exhibit, prepare_exhibit
from mmid.output.verdict import VERDICTS, sentence, verdict
from mmid.system.outputs import check_file, written_target
from mmid.system.tables import clock, in_cents
from mmid.version import __version__

SUFFIXES = (".html", ".htm")

MOST_BYTES = 50_000_000
"""Once a page holds so much sound, pictures and notes, further recordings come without."""

COLUMNS = {
    "file": "text",
    "verdict": "text",
    "piece": "text",
    "confidence": "number",
    "position": "number",
    "tempo": "number",
    "key": "number",
    "length": "number",
}
"""Of the table, and how each is sorted."""


class Page(Sink):
    """A page that answers are added to one by one; memory does not grow with their number.

    Parameters
    ----------
    path : Path
        The .html file to write; it is written whole by `close`, or not at all.
    identifier : Identifier
        That gives the answers.
    start : float
        Where the queries begin in their files, seconds.

    Raises
    ------
    MmidError
        If the file cannot be written there.
    """

    explains = True

    def __init__(self, path: Path, identifier: Identifier, start: float = 0.0) -> None:
        self._path = check_file(path, SUFFIXES)
        self._identifier, self._start = identifier, start
        self._templates = page_templates()
        self._parts = TemporaryFile(dir=path.parent)  # noqa: SIM115, `close` closes it
        self._written = 0
        self._verdicts: Counter[str] = Counter()
        self._size = 0
        self._drawn: tuple[Answered | None, Exhibit] = (None, Exhibit())

    def prepare(self, answered: Answered) -> None:
        """Draw what is shown of an answer."""
        self._drawn = answered, self._exhibit(answered)

    def take(self, answered: Answered) -> None:
        """Add an answer."""
        if self._drawn[0] is not answered:
            self.prepare(answered)
        exhibit = self._drawn[1]
        template = self._templates.get_template("recording.html")
        number = self._verdicts.total() + 1
        text = template.render(number=number, answered=answered, exhibit=exhibit)
        self._written += self._parts.write(text.encode())
        self._size += exhibit.size
        self._verdicts[verdict(answered.answer)] += 1

    def _exhibit(self, answered: Answered) -> Exhibit:
        if self._size < MOST_BYTES:
            start = answered.at[0] if answered.at else self._start
            return prepare_exhibit(self._identifier, answered, start)
        held = f"{MOST_BYTES / 1e6:g} MB"
        return Exhibit(remarks=(f"No sound, notes or picture: the page holds {held} of them.",))

    def close(self) -> None:
        """Write the page, if there is any answer."""
        with self._parts:
            if self._verdicts:
                self._write()

    def _write(self) -> None:
        script, style = asset("roll.js") + asset("page.js"), asset("page.css")
        stream = self._templates.get_template("page.html").stream(
            policy=_policy(script, style),
            script=Markup(script),
            style=Markup(style),
            verdicts=self._verdicts,
            parts=self._read(),
            full=self._size >= MOST_BYTES,
        )
        with written_target(self._path) as part:
            stream.dump(str(part), "utf-8")

    def _read(self) -> Iterator[Markup]:
        self._parts.truncate(self._written)  # what an interrupt cut short goes
        self._parts.seek(0)
        return (Markup(line.decode()) for line in self._parts)


def breakable(path: str) -> Markup:
    """Return a name as HTML that may go on in a new line after each folder.

    Examples
    --------
    >>> breakable("a & b/c")
    Markup('a &amp; b/<wbr>c')
    """
    return Markup("/<wbr>").join(label(path).split("/"))


def page_templates() -> Environment:
    """Return the templates of a page, which escape what they are given."""
    templates = Environment(
        loader=PackageLoader("mmid", "assets/page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {
        "clock": clock,
        "in_cents": in_cents,
        "label": label,
        "breakable": breakable,
        "own_title": own_title,
        "share": "{:.0%}".format,
    }
    templates.globals |= {
        "columns": COLUMNS,
        "sentence": sentence,
        "verdict": verdict,
        "kinds": VERDICTS,
        "version": __version__,
        "clip_seconds": CLIP_SECONDS,
        "megabytes": f"{MOST_BYTES / 1e6:g}",
    }
    return templates


def asset(name: str) -> str:
    """Return a style or a script of the page."""
    return files("mmid").joinpath("assets", "page", name).read_text(encoding="utf-8")


def _policy(script: str, style: str) -> str:
    """Return the content security policy of a page with this script and style."""
    return "; ".join(
        (
            "default-src 'none'",
            "img-src data:",
            "media-src data:",
            f"script-src '{_digest(script)}'",
            f"style-src '{_digest(style)}'",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _digest(text: str) -> str:
    return f"sha256-{b64encode(sha256(text.encode()).digest()).decode()}"
