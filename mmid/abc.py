"""Tunes in ABC notation: a strict reader for the subset the demo library uses, and MIDI.

Conventions: musical time is in quarter notes, kept exact as fractions; seconds appear only
where a tune meets MIDI. Pitches are MIDI numbers: ABC's ``C`` is middle C, 60. Notes are in
played order, with repeats written out and ties joined.

The subset: header fields X, T, C, O, M, L, Q, K (X first, K last); notes with accidentals that
last to the end of the bar, octave marks, lengths, ``>`` and ``<``, rests ``z``, triplets
``(3``, ties ``-``, chord symbols, ``|`` ``||`` ``|]`` ``|:`` ``:|`` ``[1`` ``[2`` and comments.
Anything else is an error. So is a bar of the wrong length: only a pickup, the last bar after a
pickup, and the two halves of a bar split at a repeat may be short.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import pretty_midi

from mmid.errors import MmidError

MELODY_PROGRAM = 73  # General MIDI flute, counted from 0
CHORD_PROGRAM = 24  # nylon guitar
MELODY_VELOCITY, CHORD_VELOCITY = 96, 64
TICKS_PER_QUARTER = 480  # divisible by 3 and by 32, so every length of the subset is exact
LOWEST_BASS, LOWEST_TONE = 36, 52  # the accompaniment's octaves start here

_STEPS = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
_SHARP_ORDER = "FCGDAEB"
_MODES = {"maj": 0, "ion": 0, "min": -3, "aeo": -3, "dor": -2, "mix": -1, "lyd": 1, "phr": -4}
_ALTERATIONS = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}
_QUALITIES = {"": (0, 4, 7), "m": (0, 3, 7), "7": (0, 4, 7, 10), "m7": (0, 3, 7, 10),
              "dim": (0, 3, 6)}  # fmt: skip
_BROKEN = {">": Fraction(3, 2), "<": Fraction(1, 2)}

_FIELD = re.compile(r"([A-Za-z]):(?!\|)\s*(.*)")
_KEY = re.compile(r"([A-G])([#b]?)\s*(m|[a-zA-Z]{3,})?")
_CHORD = re.compile(r"([A-G])([#b]?)(m7|m|7|dim|)")
_TOKEN = re.compile(
    r"""(?P<space>\s+) | "(?P<chord>[^"]*)" | (?P<bar>:\||\|:|\|\||\|\]|\|) | \[(?P<ending>[12])
    | (?P<triplet>\(3) | (?P<tie>-) | (?P<broken>[<>])
    | (?P<accidental>\^\^?|__?|=)? (?P<letter>[A-Ga-gz]) (?P<octave>,*|'*)
      (?P<numerator>\d{0,2}) (?P<slashes>/*) (?P<denominator>\d{0,2})""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Note:
    """A note as played: onset and duration in quarter notes, pitch as a MIDI number."""

    onset: Fraction
    duration: Fraction
    pitch: int


@dataclass(frozen=True)
class Chord:
    """A chord symbol such as ``Am`` or ``D7`` and the span it holds for, in quarter notes."""

    onset: Fraction
    duration: Fraction
    symbol: str


@dataclass(frozen=True)
class Tune:
    """One tune, in played order.

    Parameters
    ----------
    number : int
        The X field.
    title, composer, origin : str
        The T, C and O fields; composer and origin may be empty, not both.
    meter : tuple[int, int]
        Beats a bar and the beat's note value, such as ``(6, 8)``.
    tempo : float
        Quarter notes a minute.
    notes : tuple[Note, ...]
        The melody.
    chords : tuple[Chord, ...]
        The accompaniment.
    bars : tuple[Fraction, ...]
        Onsets of the bars, in quarter notes, a pickup's included.
    length : Fraction
        Quarter notes from start to end.
    """

    number: int
    title: str
    composer: str
    origin: str
    meter: tuple[int, int]
    tempo: float
    notes: tuple[Note, ...]
    chords: tuple[Chord, ...]
    bars: tuple[Fraction, ...]
    length: Fraction

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return float(self.length) * 60 / self.tempo

    @property
    def slug(self) -> str:
        """The title as a file name: lower-case ASCII letters, digits and hyphens."""
        plain = unicodedata.normalize("NFKD", self.title).encode("ascii", "ignore").decode()
        return re.sub(r"[^a-z0-9]+", "-", plain.lower().replace("'", "")).strip("-")


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


def read_abc(text: str) -> list[Tune]:
    """Read tunes from ABC text.

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
    >>> tune, = read_abc('X:1\\nT:Scale\\nO:-\\nM:2/4\\nL:1/4\\nQ:1/4=60\\nK:G\\nE F|G2|]')
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


def read_library() -> list[Tune]:
    """Read the packaged demo library of public-domain tunes."""
    asset = files("mmid").joinpath("assets", "demo", "tunes.abc")
    return read_abc(asset.read_text(encoding="utf-8"))


def write_midi(tune: Tune, path: Path) -> None:
    """Write a tune to a MIDI file of two tracks: the melody, named after the tune, and chords.

    Parameters
    ----------
    tune : Tune
        The tune; its onsets and durations become seconds at its own tempo.
    path : Path
        The file to write; its folder must exist.

    Raises
    ------
    MmidError
        The file cannot be written.
    """
    score = pretty_midi.PrettyMIDI(resolution=TICKS_PER_QUARTER, initial_tempo=tune.tempo)
    score.time_signature_changes.append(pretty_midi.TimeSignature(*tune.meter, 0))
    parts = (
        (tune.title, MELODY_PROGRAM, MELODY_VELOCITY, iter(tune.notes)),
        ("Chords", CHORD_PROGRAM, CHORD_VELOCITY, _accompaniment(tune)),
    )
    for name, program, velocity, notes in parts:
        part = pretty_midi.Instrument(program=program, name=name)
        part.notes.extend(_midi_note(note, velocity, tune.tempo) for note in notes)
        score.instruments.append(part)
    try:
        score.write(str(path))
    except OSError as error:
        raise MmidError(f"cannot write {path}: {error}") from error


def write_library(folder: Path) -> list[Path]:
    """Write every packaged tune as a MIDI file named after it, such as ``greensleeves.mid``.

    Parameters
    ----------
    folder : Path
        Where to write; made if missing.

    Returns
    -------
    list[Path]
        The files, in the library's order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for tune in read_library():
        path = folder / f"{tune.slug}.mid"
        write_midi(tune, path)
        paths.append(path)
    return paths


def _midi_note(note: Note, velocity: int, tempo: float) -> pretty_midi.Note:
    start = float(note.onset) * 60 / tempo
    end = float(note.onset + note.duration) * 60 / tempo
    return pretty_midi.Note(velocity, note.pitch, start, end)


def _accompaniment(tune: Tune) -> Iterator[Note]:
    """Yield a bass note where a chord or a bar starts, and the chord on the beats after it."""
    beats, unit = tune.meter
    compound = unit == 8 and beats % 3 == 0 and beats > 3
    beat = Fraction(3, 2) if compound else Fraction(4, unit)
    edges = [*tune.bars, tune.length]
    for chord in tune.chords:
        bass, tones = _chord_pitches(chord.symbol)
        for low, high in zip(edges, edges[1:], strict=False):
            start, end = max(low, chord.onset), min(high, chord.onset + chord.duration)
            count = (high - low) // beat + 1
            hits = [low + beat * i for i in range(count) if start < low + beat * i < end]
            if start < end:
                yield from _vamp([start, *hits, end], bass, tones)


def _vamp(times: list[Fraction], bass: int, tones: list[int]) -> Iterator[Note]:
    """Yield the bass at the first time, the tones at the others or, without any, with it."""
    yield Note(times[0], times[1] - times[0], bass)
    hits = list(zip(times, times[1:], strict=False))
    for start, end in hits[1:] or hits:
        yield from (Note(start, end - start, pitch) for pitch in tones)


def _chord_pitches(symbol: str) -> tuple[int, list[int]]:
    """Bass and tones of a chord symbol, each folded into its octave."""
    match = _CHORD.fullmatch(symbol)
    if match is None:
        raise MmidError(f"unknown chord symbol {symbol!r}")
    letter, sign, quality = match.groups()
    root = _STEPS[letter] + {"": 0, "#": 1, "b": -1}[sign]
    bass = LOWEST_BASS + (root - LOWEST_BASS) % 12
    return bass, [LOWEST_TONE + (root + i - LOWEST_TONE) % 12 for i in _QUALITIES[quality]]


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
    mode = "min" if match and match[3] == "m" else (match and match[3] or "maj")[:3].lower()
    if match is None or mode not in _MODES:
        raise MmidError(f"{where}: cannot read K:{value}")
    sign = {"": 0, "#": 7, "b": -7}[match[2]]
    fifths = _SHARP_ORDER.index(match[1]) - 1 + sign + _MODES[mode]
    if abs(fifths) > 7:
        raise MmidError(f"{where}: no key signature for K:{value}")
    letters = _SHARP_ORDER[:fifths] if fifths >= 0 else _SHARP_ORDER[fifths:]
    return dict.fromkeys(letters, 1 if fifths > 0 else -1)


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
        step = 60 + _STEPS.get(match["letter"].upper(), 0) + 12 * octave
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
            _chord_pitches(symbol)
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
        last = i + 1 == len(bars) or bars[i + 1].ending != bar.ending
        if again and last and (bar.closes or bar.ending == 2) and bar.ending != 1:
            start, again = i + 1, False
        i += 1
    return order


def _check_endings(where: str, bars: list[_Bar]) -> None:
    """A first ending must close with ``:|`` and a second one must follow it directly."""
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
