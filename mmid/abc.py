"""Tunes in ABC notation: a strict reader for the subset the demo library uses.

Conventions: those of `mmid.tune`; ABC's ``C`` is middle C, 60.

The subset: header fields X, T, C, O, M, L, Q, K (X first, K last); notes with accidentals that
last to the end of the bar, octave marks, lengths, ``>`` and ``<``, rests ``z``, triplets
``(3``, ties ``-``, chord symbols, ``|`` ``||`` ``|]`` ``|:`` ``:|`` ``[1`` ``[2`` and comments.
Anything else is an error. So is a bar of the wrong length: only a pickup, the last bar after a
pickup, and the two halves of a bar split at a repeat may be short.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from mmid.errors import MmidError
from mmid.tune import STEPS, Chord, Note, Tune, chord_pitches

_SHARP_ORDER = "FCGDAEB"
_MODES = {"maj": 0, "ion": 0, "min": -3, "aeo": -3, "dor": -2, "mix": -1, "lyd": 1, "phr": -4}
_ALTERATIONS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}
_BROKEN = {">": Fraction(3, 2), "<": Fraction(1, 2)}

_FIELD = re.compile(r"([A-Za-z]):(?!\|)\s*(.*)")
_KEY = re.compile(r"([A-G])([#b]?)\s*(m|[a-zA-Z]{3,})?")
_TOKEN = re.compile(
    r"""(?P<space>\s+) | "(?P<chord>[^"]*)" | (?P<bar>:\||\|:|\|\||\|\]|\|) | \[(?P<ending>[12])
    | (?P<triplet>\(3) | (?P<tie>-) | (?P<broken>[<>])
    | (?P<accidental>\^\^?|__?|=)? (?P<letter>[A-Ga-gz]) (?P<octave>,+|'+|)
      (?P<numerator>\d{0,2}) (?P<slashes>/*) (?P<denominator>\d{0,2})""",
    re.VERBOSE,
)


def read_abc(text: str) -> list[Tune]:
    r"""Read tunes from ABC text.

    Parameters
    ----------
    text : str
        Tunes in the subset of ABC that the module describes, a blank line between two.

    Returns
    -------
    list[Tune]
        The tunes, in the text's order.

    Raises
    ------
    MmidError
        The text leaves the subset or a bar has the wrong length; names the tune and the bar.

    Examples
    --------
    >>> tune, = read_abc('X:1\nT:Scale\nO:-\nM:2/4\nL:1/4\nQ:1/4=60\nK:G\nE F|G2|]')
    >>> [note.pitch for note in tune.notes], tune.seconds
    ([64, 66, 67], 4.0)
    """
    lines = [line.partition("%")[0].rstrip() for line in text.splitlines()
             if not line.startswith("%")]  # fmt: skip
    blocks = re.split(r"\n{2,}", "\n".join(lines).strip("\n"))
    tunes = [_read_tune(block.splitlines()) for block in blocks if block]
    numbers = [tune.number for tune in tunes]
    for number in numbers:
        if numbers.count(number) > 1:
            raise MmidError(f"two tunes have the number X:{number}")
    return tunes


def _read_tune(lines: list[str]) -> Tune:
    size = next((i + 1 for i, line in enumerate(lines) if line.startswith("K:")), len(lines))
    head = _read_fields(lines[:size])
    where = f"tune {head['X']} ({head['T']})"
    beats, unit = _numbers(where, "M", r"(\d{1,2})/(\d{1,2})", head["M"])
    above, below = _numbers(where, "L", r"(\d{1,2})/(\d{1,2})", head["L"])
    over, under, per_minute = _numbers(where, "Q", r"(\d)/(\d{1,2})=(\d{1,3})", head["Q"])
    reader = _Reader(where, Fraction(4 * above, below), _key_signature(where, head["K"]))
    for line in lines[size:]:
        reader.read_line(line)
    timeline = _Timeline(where, Fraction(4 * beats, unit))
    for bar in _play_order(where, reader.finish()):
        timeline.add(bar)
    timeline.finish()
    return Tune(
        number=_numbers(where, "X", r"(\d{1,4})", head["X"])[0],
        title=head["T"],
        composer=head.get("C", ""),
        origin=head.get("O", ""),
        meter=(beats, unit),
        tempo=4 * over * per_minute / under,
        notes=tuple(timeline.notes),
        chords=tuple(timeline.chords),
        bars=tuple(timeline.bars),
        length=timeline.now,
    )


def _read_fields(lines: list[str]) -> dict[str, str]:
    """Read header lines; all of X, T, M, L, Q, K and one of C and O must be there, once."""
    head: dict[str, str] = {}
    for line in lines:
        match = _FIELD.fullmatch(line)
        if match is None or match[1] not in "XTCOMLQK" or match[1] in head or not match[2]:
            raise MmidError(f"header of {lines[0]!r}: unexpected line {line!r}")
        head[match[1]] = match[2]
    missing = [name for name in "XTMLQK" if name not in head]
    if missing or not {"C", "O"} & head.keys():
        raise MmidError(f"header of {lines[0]!r}: field {(missing or ['C or O'])[0]} is missing")
    if not lines[0].startswith("X:"):
        raise MmidError(f"header of {lines[0]!r}: field X must come first")
    return head


def _numbers(where: str, name: str, pattern: str, value: str) -> list[int]:
    """Numbers of a header field, all above zero."""
    match = re.fullmatch(pattern, value)
    numbers = [int(group) for group in match.groups()] if match else [0]
    if min(numbers) < 1:
        raise MmidError(f"{where}: cannot read {name}:{value}")
    return numbers


def _key_signature(where: str, value: str) -> dict[str, int]:
    """Sharps (1) and flats (-1) of a key such as ``G``, ``F#m`` or ``Edor``, by letter."""
    match = _KEY.fullmatch(value)
    mode = (match[3] or "maj").lower() if match else ""
    mode = "min" if mode == "m" else mode[:3]
    if match is None or mode not in _MODES:
        raise MmidError(f"{where}: cannot read K:{value}")
    sign = {"": 0, "#": 7, "b": -7}[match[2]]
    fifths = _SHARP_ORDER.index(match[1]) - 1 + sign + _MODES[mode]
    if abs(fifths) > 7:
        raise MmidError(f"{where}: no key signature for K:{value}")
    letters = _SHARP_ORDER[:fifths] if fifths >= 0 else _SHARP_ORDER[fifths:]
    return dict.fromkeys(letters, 1 if fifths > 0 else -1)


@dataclass
class _Event:
    """A written note or rest (pitch None); step is its pitch without accidentals."""

    duration: Fraction
    pitch: int | None
    step: int
    chord: str = ""
    tied: bool = False


@dataclass
class _Bar:
    """A written bar; opens and closes say that ``|:`` stands before and ``:|`` after it."""

    number: int
    ending: int = 0
    opens: bool = False
    closes: bool = False
    events: list[_Event] = field(default_factory=list)

    @property
    def length(self) -> Fraction:
        return sum((event.duration for event in self.events), Fraction(0))


class _Reader:
    """Reads the lines of one tune's body into written bars."""

    def __init__(self, where: str, unit: Fraction, key: dict[str, int]) -> None:
        self.where, self.unit, self.key = where, unit, key
        self.bars = [_Bar(1)]
        self.accidentals: dict[int, int] = {}
        self.last: _Event | None = None
        self.chord = ""
        self.triplet = 0
        self.factor = Fraction(1)

    def fail(self, what: str) -> MmidError:
        return MmidError(f"{self.where}, bar {self.bars[-1].number}: {what}")

    def read_line(self, line: str) -> None:
        if _FIELD.fullmatch(line):
            raise self.fail(f"a field after the header: {line!r}")
        position = 0
        while position < len(line):
            match = _TOKEN.match(line, position)
            if match is None:
                raise self.fail(f"cannot read {line[position : position + 10]!r}")
            self.read_token(match)
            position = match.end()

    def read_token(self, match: re.Match[str]) -> None:
        if match["letter"]:
            self.add_event(match)
        elif match["bar"]:
            self.end_bar(match["bar"])
        elif match["ending"]:
            self.start_ending(int(match["ending"]))
        elif match["triplet"]:
            self.triplet = 3
        elif match["chord"] is not None:
            self.set_chord(match["chord"])
        elif match["tie"] or match["broken"]:
            self.mark_last(match["broken"])

    def add_event(self, match: re.Match[str]) -> None:
        duration = self.unit * self.length_of(match) * self.factor
        if self.triplet:
            duration *= Fraction(2, 3)
            self.triplet -= 1
        octave = match["octave"].count("'") - match["octave"].count(",")
        step = 60 + STEPS.get(match["letter"].upper(), 0) + 12 * octave
        step += 12 if match["letter"].islower() else 0
        pitch = None if match["letter"] == "z" else self.pitch_of(match, step)
        if pitch is None and (match["accidental"] or match["octave"]):
            raise self.fail("a rest with an accidental or an octave mark")
        self.last = _Event(duration, pitch, step, self.chord)
        self.bars[-1].events.append(self.last)
        self.chord, self.factor = "", Fraction(1)

    def length_of(self, match: re.Match[str]) -> Fraction:
        """Length in units: ``3``, ``3/2``, ``/4``, ``/`` (a half) and ``//`` (a quarter)."""
        numerator = int(match["numerator"] or 1)
        denominator = int(match["denominator"] or 2 ** len(match["slashes"]))
        if numerator == 0 or denominator == 0 or (match["denominator"] and match["slashes"] != "/"):
            raise self.fail(f"cannot read the length of {match[0]!r}")
        return Fraction(numerator, denominator)

    def pitch_of(self, match: re.Match[str], step: int) -> int:
        """Pitch under the key, the bar's accidentals and a tie from the bar before."""
        if match["accidental"]:
            self.accidentals[step] = _ALTERATIONS[match["accidental"]]
        elif self.last and self.last.tied and self.last.step == step and self.last.pitch:
            return self.last.pitch
        return step + self.accidentals.get(step, self.key.get(match["letter"].upper(), 0))

    def set_chord(self, symbol: str) -> None:
        if self.chord:
            raise self.fail(f"chord {self.chord!r} has no note")
        try:
            chord_pitches(symbol)
        except MmidError as error:
            raise self.fail(str(error)) from None
        self.chord = symbol

    def mark_last(self, broken: str | None) -> None:
        """Tie the last note of the bar or, at a ``>`` or ``<``, shift its end."""
        if not self.bars[-1].events or self.last is None or self.factor != 1:
            raise self.fail("'-', '>' or '<' without a note before it")
        if broken:
            self.last.duration *= _BROKEN[broken]
            self.factor = 2 - _BROKEN[broken]
        elif self.last.pitch is None:
            raise self.fail("a tie from a rest")
        else:
            self.last.tied = True

    def start_ending(self, ending: int) -> None:
        if self.bars[-1].events:
            raise self.fail("an ending in the middle of a bar")
        self.bars[-1].ending = ending

    def end_bar(self, line: str) -> None:
        """End a bar; two bar lines in a row, or one before the first note, end it once."""
        if self.triplet or self.factor != 1 or self.chord:
            raise self.fail("a triplet, a '>', a '<' or a chord has no note to apply to")
        done = self.bars[-1]
        if done.events:
            goes_on = line == "|"
            self.bars.append(_Bar(done.number + 1, done.ending if goes_on else 0))
            self.accidentals = {}
            done.closes = line == ":|"
        elif line == ":|":
            raise self.fail("':|' without a bar before it")
        self.bars[-1].opens = self.bars[-1].opens or line == "|:"

    def finish(self) -> list[_Bar]:
        if self.bars[-1].events:
            raise self.fail("the tune must end with a bar line")
        if self.last is None:
            raise self.fail("the tune has no notes")
        return self.bars[:-1]


def _play_order(where: str, bars: list[_Bar]) -> list[_Bar]:
    """Write out the repeats, each played twice."""
    _check_endings(where, bars)
    order: list[_Bar] = []
    i, start, again = 0, 0, False
    while i < len(bars):
        bar = bars[i]
        if bar.opens and not again:
            start = i
        if bar.ending != (1 if again else 2):
            order.append(bar)
        if bar.closes and not again:
            i, again = start, True
            continue
        i += 1
        done = i == len(bars) or bars[i].ending != 2 if bar.ending == 2 else bar.closes
        if done and bar.ending != 1:
            start, again = i, False
    return order


def _check_endings(where: str, bars: list[_Bar]) -> None:
    """Check that a first ending closes with ``:|`` and a second one follows it directly."""
    for bar, after in zip(bars, [*bars[1:], _Bar(0)], strict=True):
        left = bar.ending == 1 and after.ending != 1
        if (after.ending == 2 and bar.ending == 0) or left != (bar.ending == 1 and bar.closes):
            raise MmidError(f"{where}, bar {bar.number}: endings must read '[1 ... :|[2 ...'")
        if left and after.ending != 2:
            raise MmidError(f"{where}, bar {bar.number}: the second ending is missing")


class _Timeline:
    """Lays bars in played order on a time line and checks that each one is full."""

    def __init__(self, where: str, full: Fraction) -> None:
        self.where, self.full, self.now = where, full, Fraction(0)
        self.notes: list[Note] = []
        self.chords: list[Chord] = []
        self.bars: list[Fraction] = []
        self.tied = False
        self.pickup = self.missing = Fraction(0)
        self.bar = _Bar(0)

    def fail(self, what: str) -> MmidError:
        return MmidError(f"{self.where}, bar {self.bar.number}: {what}")

    def add(self, bar: _Bar) -> None:
        """Add a bar: full, a pickup, or one half of a bar split at a repeat."""
        if self.missing and bar.length != self.missing:
            raise self.fail(f"{self.missing} quarter notes are missing")
        self.bar = bar
        if bar.length > self.full:
            raise self.fail(f"{bar.length - self.full} quarter notes too many")
        if not self.missing:
            self.bars.append(self.now)
        first = self.now == 0
        self.missing = Fraction(0) if self.missing or first else self.full - bar.length
        self.pickup = bar.length if first else self.pickup
        for event in bar.events:
            self.add_event(event)

    def add_event(self, event: _Event) -> None:
        if event.chord:
            self.end_chord()
            self.chords.append(Chord(self.now, Fraction(0), event.chord))
        if self.tied and event.pitch != self.notes[-1].pitch:
            raise self.fail("a tie to another pitch")
        if self.tied:
            held = self.notes.pop()
            self.notes.append(Note(held.onset, held.duration + event.duration, held.pitch))
        elif event.pitch is not None:
            self.notes.append(Note(self.now, event.duration, event.pitch))
        self.tied = event.tied
        self.now += event.duration

    def end_chord(self) -> None:
        if self.chords:
            onset = self.chords[-1].onset
            self.chords[-1] = Chord(onset, self.now - onset, self.chords[-1].symbol)

    def finish(self) -> None:
        """End the last chord; a last bar may lack the pickup, nothing else."""
        if self.missing not in (0, self.pickup % self.full):
            raise self.fail(f"{self.missing} quarter notes are missing")
        if self.tied:
            raise self.fail("a tie at the end of the tune")
        self.end_chord()
