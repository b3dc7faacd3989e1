"""The ABC reader on tiny strings with hand-computed results."""

from fractions import Fraction as F

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmid.abc import read_abc
from mmid.errors import MmidError
from mmid.tune import Tune


def abc(body: str, key: str = "C", meter: str = "4/4", unit: str = "1/4") -> str:
    return f"X:1\nT:Test\nO:-\nM:{meter}\nL:{unit}\nQ:1/4=120\nK:{key}\n{body}\n"


def read(body: str, **header: str) -> Tune:
    (tune,) = read_abc(abc(body, **header))
    return tune


def pitches(body: str, **header: str) -> list[int]:
    return [note.pitch for note in read(body, **header).notes]


def durations(body: str, **header: str) -> list[F]:
    return [note.duration for note in read(body, **header).notes]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("C", [60, 62, 64, 65, 67, 69, 71, 72]),
        ("G", [60, 62, 64, 66, 67, 69, 71, 72]),
        ("D major", [61, 62, 64, 66, 67, 69, 71, 73]),
        ("Bb", [60, 62, 63, 65, 67, 69, 70, 72]),
        ("Am", [60, 62, 64, 65, 67, 69, 71, 72]),
        ("F#m", [61, 62, 64, 66, 68, 69, 71, 73]),
        ("Cmin", [60, 62, 63, 65, 67, 68, 70, 72]),
        ("Edor", [61, 62, 64, 66, 67, 69, 71, 73]),
        ("Ador", [60, 62, 64, 66, 67, 69, 71, 72]),
        ("Dmix", [60, 62, 64, 66, 67, 69, 71, 72]),
        ("Fmaj", [60, 62, 64, 65, 67, 69, 70, 72]),
        ("Flydian", [60, 62, 64, 65, 67, 69, 71, 72]),
        ("Ephr", [60, 62, 64, 65, 67, 69, 71, 72]),
    ],
)
def test_key_signatures(key: str, expected: list[int]) -> None:
    assert pitches("CDEF|GABc|]", key=key) == expected


def test_octave_marks() -> None:
    assert pitches("C,, C, C c|c' c'' z2|]") == [36, 48, 60, 72, 84, 96]


def test_accidentals_last_to_the_end_of_the_bar_in_their_octave() -> None:
    assert pitches("^F F f F|F =F ^^F __B|]", key="C") == [66, 66, 77, 66, 65, 65, 67, 69]
    assert pitches("F =F F f|F4|]", key="G") == [66, 65, 65, 78, 66]


def test_lengths() -> None:
    body = "C2 C/ C/2 C3/4 C/4|C// C3/ z/4 C2|]"
    assert durations(body) == [F(2), F(1, 2), F(1, 2), F(3, 4), F(1, 4), F(1, 4), F(3, 2), F(2)]


def test_broken_rhythm() -> None:
    assert durations("C>D E<F|C2>D2|]") == [F(3, 2), F(1, 2), F(1, 2), F(3, 2), F(3), F(1)]


def test_triplets() -> None:
    tune = read("(3CDE (3F/G/A/ z|]", meter="4/4")
    assert [note.onset for note in tune.notes] == [0, F(2, 3), F(4, 3), 2, F(7, 3), F(8, 3)]
    assert tune.length == 4


def test_ties_join_notes_and_carry_accidentals_over_the_bar() -> None:
    tune = read("C2 ^F2-|F F2-F|]")
    assert [(note.pitch, note.duration) for note in tune.notes] == [(60, 2), (66, 3), (65, 3)]


def test_rests_and_chords() -> None:
    tune = read('"C"C z "G7"E2|C4|"Am"A4|]')
    assert [note.onset for note in tune.notes] == [0, 2, 4, 8]
    chords = [(chord.symbol, chord.onset, chord.duration) for chord in tune.chords]
    assert chords == [("C", 0, 2), ("G7", 2, 6), ("Am", 8, 4)]


@pytest.mark.parametrize(
    ("body", "played"),
    [
        ("C4:|D4|]", "CCD"),
        ("C4|:D4|E4:|F4|]", "CDEDEF"),
        ("|:C4:||:D4:|", "CCDD"),
        ("|:C4|[1D4:|[2E4|]", "CDCE"),
        ("|:C4|[1D4|E4:|[2F4|G4||A4|]", "CDECFGA"),
        ("|:C4|[1D4:|[2E4||\n|:F4|[1G4:|[2A4|]", "CDCEFGFA"),
        ("C4||D4|:E4:|", "CDEE"),
    ],
)
def test_repeats_and_endings(body: str, played: str) -> None:
    assert pitches(body) == pitches("4|".join(played) + "4|]")


def test_pickups_and_bars_split_at_a_repeat() -> None:
    tune = read("|:C|D4|E3:|F|G4|A3|]")
    assert tune.bars == (0, 1, 5, 9, 13, 17, 21)
    assert tune.length == 24


def test_tempo_counts_the_beat_of_the_q_field() -> None:
    (tune,) = read_abc(abc("C3 D3|]", meter="6/8", unit="1/8").replace("1/4=120", "3/8=60"))
    assert tune.tempo == 90
    assert tune.seconds == pytest.approx(2)


def test_comments_and_blank_lines() -> None:
    text = (
        "% a library\n\n"
        + abc("C4| % one\n% two\nD4|]")
        + "\n\n"
        + abc("E4|]").replace("X:1", "X:2")
    )
    assert [len(tune.notes) for tune in read_abc(text)] == [2, 1]
    assert read_abc("% nothing\n") == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("C4|D3|E4|]", r"tune 1 \(Test\), bar 2: 1 quarter notes are missing"),
        ("C4|D3|]", "bar 2: 1 quarter notes are missing"),
        ("C4|D5|]", "bar 2: 1 quarter notes too many"),
        ("C4|D4", "bar 2: the tune must end with a bar line"),
        ("z", "bar 1: the tune must end"),
        ("|]", "no notes"),
        ("C4|{d}D4|]", r"bar 2: cannot read '\{d\}D4"),
        ("[CE]4|]", r"cannot read '\[CE"),
        ("C4|K:G\nD4|]", "bar 2: cannot read 'K:G'"),
        ("C4|\nw:la\nD4|]", "bar 2: a field after the header"),
        ('"H"C4|]', "bar 1: unknown chord symbol 'H'"),
        ('"C""G"C4|]', "chord 'C' has no note"),
        ('C4"C"|]', "no note to apply to"),
        ("(3CD|]", "no note to apply to"),
        ("C3>|]", "no note to apply to"),
        (">C4|]", "without a note before"),
        ("z4-|C4|]", "a tie from a rest"),
        ("C4-|D4|]", "bar 2: a tie to another pitch"),
        ("C4-|]", "a tie at the end"),
        ("C0|]", "cannot read the length of 'C0'"),
        ("C4/0|]", "cannot read the length"),
        ("^z4|]", "a rest with an accidental"),
        (":|C4|]", "without a bar before it"),
        ("C2[1D2|]", "an ending in the middle of a bar"),
        ("C4|[2D4|]", "endings must read"),
        ("C4|[1D4|E4|]", "endings must read"),
        ("C4|[1D4:|E4|]", "the second ending is missing"),
    ],
)
def test_bad_music_is_refused_with_tune_and_bar(body: str, message: str) -> None:
    with pytest.raises(MmidError, match=message) as caught:
        read(body)
    assert str(caught.value).startswith("tune 1 (Test), bar ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("M:4/4\n", "", "field M is missing"),
        ("O:-\n", "", "field C or O is missing"),
        ("M:4/4", "M:4/0", "cannot read M:4/0"),
        ("L:1/4", "L:x", "cannot read L:x"),
        ("Q:1/4=120", "Q:120", "cannot read Q:120"),
        ("K:C", "K:Hm", "cannot read K:Hm"),
        ("K:C", "K:G#", "no key signature for K:G#"),
        ("X:1\nT:Test", "T:Test\nX:1", "field X must come first"),
        ("O:-", "R:reel", "unexpected line 'R:reel'"),
        ("O:-", "O:-\nO:-", "unexpected line 'O:-'"),
        ("X:1", "X:one", "cannot read X:one"),
    ],
)
def test_bad_headers_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(MmidError, match=message):
        read_abc(abc("C4|]").replace(old, new))


def test_two_tunes_with_one_number_are_refused() -> None:
    with pytest.raises(MmidError, match="two tunes have the number X:1"):
        read_abc(abc("C4|]") + "\n" + abc("D4|]"))


@given(st.text(alphabet="CDz^_=,'/234<>|:[]()-\" \n", max_size=40))
def test_any_text_is_read_or_refused(body: str) -> None:
    try:
        tunes = read_abc(abc(body))
    except MmidError:
        return
    assert all(tune.length > 0 for tune in tunes)
