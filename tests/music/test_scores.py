"""Scores as notes: what sounds, what does not, and files that break their readers."""

from __future__ import annotations

import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from scores import (
    BOOK,
    KERN,
    MEI,
    MUSESCORE,
    music_xml,
    mxl,
    needs_abc2midi,
    needs_musescore,
    needs_verovio,
    note,
)

from mmid.errors import MidiError
from mmid.music.folders import files_below, find, pieces_of
from mmid.music.formats import is_written, read_suffixes, skipped_lines
from mmid.music.midi import read_midi
from mmid.music.scores import converters, verovio_worker
from mmid.music.scores.bounded import ScoreWorker, run_bounded
from mmid.music.scores.conversion import convert_files
from mmid.music.scores.reading import read_music
from mmid.music.scores.titles import credited, kern_title, xml_title
from mmid.music.scores.tune_books import file_of, file_part, piece_digest, tune_text

C4, D4, E4, F4 = (note(step, 4) for step in "CDEF")


def repeat(direction: str) -> str:
    side = "left" if direction == "forward" else "right"
    return f'<barline location="{side}"><repeat direction="{direction}"/></barline>'


def ending(number: int, bar: str, after: str = "") -> str:
    first = f'<barline location="left"><ending number="{number}" type="start"/></barline>'
    last = f'<ending number="{number}" type="stop"/>{after}'
    return f'{first}{bar}<barline location="right">{last}</barline>'


def words(said: str, sound: str) -> str:
    kind = f"<direction-type><words>{said}</words></direction-type>"
    return f"<direction>{kind}<sound {sound}/></direction>"


def read(folder: Path, text: str, name: str = "score.musicxml") -> list[tuple[float, int]]:
    """Return onsets and pitches of a score."""
    (folder / name).write_text(text)
    notes = read_music(folder / name).notes
    return [(round(float(n["onset"]), 2), int(n["pitch"])) for n in notes]


@needs_verovio
def test_repeats_are_played(tmp_path):
    back = '<repeat direction="backward"/>'
    bars = (repeat("forward") + C4, ending(1, D4, back), ending(2, E4))
    assert [pitch for _, pitch in read(tmp_path, music_xml(*bars))] == [60, 62, 60, 64]


@needs_verovio
@pytest.mark.parametrize(
    ("bars", "pitches"),
    [
        ((C4 + words("Fine", 'fine="yes"'), D4 + words("D.C. al Fine", 'dacapo="yes"')), "CDC"),
        (
            (
                C4,
                words("Segno", 'segno="s"') + D4 + words("To Coda", 'tocoda="c"'),
                E4 + words("D.S. al Coda", 'dalsegno="s"'),
                words("Coda", 'coda="c"') + F4,
            ),
            "CDEDF",
        ),
    ],
)
def test_leaps_are_played(tmp_path, bars, pitches):
    names = {"C": 60, "D": 62, "E": 64, "F": 65}
    found = [pitch for _, pitch in read(tmp_path, music_xml(*bars))]
    assert found == [names[name] for name in pitches]


@needs_verovio
def test_transposing_instruments_are_at_sounding_pitch(tmp_path):
    clarinet = "<transpose><diatonic>-1</diatonic><chromatic>-2</chromatic></transpose>"
    assert read(tmp_path, music_xml(C4, attributes=clarinet)) == [(0.0, 58)]


@needs_verovio
def test_ties_are_one_note_and_graces_sound_and_chord_symbols_do_not(tmp_path):
    symbol = "<harmony><root><root-step>G</root-step></root><kind>major</kind></harmony>"
    grace = (
        "<note><grace slash='yes'/><pitch><step>B</step><octave>4</octave></pitch>"
        "<voice>1</voice><type>eighth</type></note>"
    )
    tied = [
        C4.replace("<voice>", f'<tie type="{side}"/><voice>').replace(
            "</note>", f'<notations><tied type="{side}"/></notations></note>'
        )
        for side in ("start", "stop")
    ]
    found = read(tmp_path, music_xml(symbol + tied[0], tied[1], grace + D4))
    assert [pitch for _, pitch in found] == [60, 71, 62] and found[2][0] >= 8.0


@needs_verovio
def test_tempo_marks_count(tmp_path):
    faster = words("Allegro", 'tempo="120"')
    assert read(tmp_path, music_xml(C4, faster + D4, E4)) == [(0.0, 60), (4.0, 62), (6.0, 64)]


@needs_verovio
def test_the_same_notes_come_of_every_format(tmp_path):
    text = music_xml(note("C", 2) + note("G", 2))
    plain = read(tmp_path, text)
    assert plain == [(0.0, 60), (2.0, 67)] == read(tmp_path, MEI, "a.mei")
    assert read(tmp_path, text.replace("UTF-8", "utf-8"), "a.xml") == plain
    assert read_music(mxl(tmp_path / "a.mxl", text)).title == "Small & Plain (A. Nobody)"
    (tmp_path / "wide.xml").write_bytes(text.replace("UTF-8", "UTF-16").encode("utf-16"))
    assert np.array_equal(
        read_music(tmp_path / "wide.xml").notes, read_music(tmp_path / "a.mxl").notes
    )


@needs_verovio
def test_kern_is_read(tmp_path):
    found = read(tmp_path, KERN, "round.krn")
    assert found == [(0, 48), (0, 60), (1, 62), (2, 64), (3, 65), (4, 52), (4, 67)]
    assert read_music(tmp_path / "round.krn").title == "A Round (Nobody, A.)"


PARTS = """**kern
{orders}*>A
*M4/4
=1-
1c
=:|!
*>B
1d
=:|!
*>C
1e
==
*-
"""


@needs_verovio
@pytest.mark.parametrize(
    ("orders", "played"),
    [
        ("", [60, 60, 62, 62, 64]),
        ("*>norep[A,B,C]\n", [60, 60, 62, 62, 64]),
        ("*>[A,A,B,C]\n", [60, 60, 62, 64]),
        ("*>[A,B,A,C]\n*>norep[A,B,C]\n", [60, 62, 60, 64]),
        ("*>norep[A,B,C]\n*>[A,A,B,B,C]\n", [60, 60, 62, 62, 64]),
    ],
)
def test_kern_is_played_in_the_order_that_it_lists(tmp_path, orders, played):
    found = read(tmp_path, PARTS.replace("{orders}", orders), "a.krn")
    assert [pitch for _, pitch in found] == played


@needs_verovio
def test_kern_without_sections_is_repeated_by_its_signs(tmp_path):
    signs = PARTS.replace("{orders}*>A\n", "")
    for text in (signs, signs.replace(":|!\n*>B", ":|!|:\n*>B")):
        plain = text.replace("*>B\n", "").replace("*>C\n", "")
        played = [pitch for _, pitch in read(tmp_path, plain, "a.krn")]
        assert played == [60, 60, 62, 62, 64]


@needs_abc2midi
@pytest.mark.parametrize("order", ["P:ABA", "Y:ABA", "Y: ABA "])
def test_parts_are_played_in_the_order_given(tmp_path, order):
    tune = f"X:1\nT:T\nM:4/4\nL:1\n{order}\nK:C\nP:A\nC:|\nP:B\nD|\n"
    played = [pitch for _, pitch in read(tmp_path, tune, "a.abc")]
    assert played == [60, 60, 62, 60, 60]


@needs_abc2midi
def test_every_tune_of_a_book_is_a_piece(tmp_path):
    book = tmp_path / "book.abc"
    book.write_text(BOOK)
    first, second = pieces_of(book)
    assert [p.name for p in (first, second)] == [
        "book.abc#X:1 First Steps",
        "book.abc#X:7 Up - Down",
    ]
    one, other = read_music(first), read_music(second)
    assert (one.title, other.title) == ("First Steps (A. Nobody)", "Up / Down")
    assert one.notes["pitch"].tolist() == [60, 62, 64, 65, 67, 60, 62, 64, 65, 69, 72]
    assert one.notes["onset"][:5].tolist() == pytest.approx([0, 0.5, 1, 1.5, 2], abs=0.01)  # even
    assert other.notes["onset"].tolist() == pytest.approx(
        [0, 1.5, 2], abs=0.01
    )  # the file's L: and a tie


def test_a_tune_keeps_its_digest_whatever_else_the_book_holds(tmp_path):
    book, more = tmp_path / "book.abc", tmp_path / "more.abc"
    book.write_text(BOOK)
    more.write_text(BOOK + "\nX:9\nT:Another\nK:C\nCCCC|\n")
    before, after = ([piece_digest(path) for path in pieces_of(path)] for path in (book, more))
    assert len(set(after)) == 3 and after[:2] == before


def test_tunes_of_one_number_and_title_stay_apart(tmp_path):
    book = tmp_path / "book.abc"
    book.write_text("X:1\nT:A\nK:C\nC|\n\nX:1\nT:A\nK:C\nD|\n")
    names = [path.name for path in pieces_of(book)]
    assert names == ["book.abc#X:1 A", "book.abc#X:1 A (2)"]
    assert b"D|" in tune_text(book.with_name(names[1]))


def test_a_book_of_one_tune_is_the_piece(tmp_path):
    book = tmp_path / "one.abc"
    book.write_text("X:1\nT:A\nK:C\nC|\n")
    assert pieces_of(book) == [book] and b"C|" in tune_text(book)


def test_names_of_tunes_lead_to_their_files():
    assert file_part("book.abc#X:1 A.wav") == "book.abc"
    assert file_of(Path("a/book.ABC#X:1 A")) == Path("a/book.ABC")
    assert file_part("music#X:1.mid") == "music#X:1.mid"
    assert is_written("a/book.abc#X:1 Mr. B.") and not is_written("a.wav")


def test_titles_say_who_wrote_a_piece():
    text = music_xml(C4)
    assert xml_title(text) == "Small & Plain (A. Nobody)"
    second = text.replace("</work>", "</work><movement-title>II. Slow</movement-title>")
    assert xml_title(second) == "Small & Plain: II. Slow (A. Nobody)"
    assert kern_title("!!!OTL: Herbst\n**kern\n") == "Herbst"
    assert credited("Untitled", "A. Nobody") is None


def test_only_xml_that_is_music_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(converters, "find_verovio", lambda: "somewhere")
    (tmp_path / "settings.xml").write_text("<?xml version='1.0'?><settings/>")
    (tmp_path / "song.xml").write_text(music_xml(C4))
    (tmp_path / "a.mid").touch()
    found = find(tmp_path, "midi")
    assert "settings.xml" not in [path.name for path in found.files]
    assert list(files_below(tmp_path, (".xml",))) == [tmp_path / "song.xml"]
    assert found.skipped.get(".xml", 0) + len(found.files) == 2


def test_what_is_missing_is_named_once(tmp_path, monkeypatch):
    gone = {c.name: lambda: None for c in converters.CONVERTERS}
    for converter in converters.CONVERTERS:
        monkeypatch.setitem(converter.__dict__, "find", gone[converter.name])
    assert set(read_suffixes("midi")) == {".mid", ".midi", ".kar", ".rmi"}
    (tmp_path / "a.mid").touch()
    for name in ("a.mxl", "b.mxl", "a.krn", "a.mscz"):
        (tmp_path / name).touch()
    (tmp_path / "b.abc").write_text(BOOK)
    assert skipped_lines(find(tmp_path, "midi").skipped) == [
        "4 scores (.mxl, .abc, .krn): pip install 'mmid[scores]' to read them",
        "1 score (.mscz): install MuseScore, which mmid runs to read them, or export as .mxl",
    ]
    with pytest.raises(MidiError, match=r"a\.krn: needs verovio: pip install 'mmid\[scores\]'"):
        read_music(tmp_path / "a.krn")
    assert pieces_of(tmp_path / "b.abc") == [tmp_path / "b.abc"]


def test_a_tune_may_be_named_by_its_number(tmp_path):
    book = tmp_path / "book.abc"
    book.write_text(BOOK)
    assert tune_text(tmp_path / "book.abc#X:7") == tune_text(tmp_path / "book.abc#X:7 Up - Down")
    book.write_text(BOOK + BOOK.partition("\n\n")[2].replace("Steps", "Leaps"))
    for name, reason in (("#X:1", "more than one such tune"), ("#X:2", "no such tune")):
        with pytest.raises(MidiError, match=f"^{reason} in book.abc$"):
            tune_text(tmp_path / f"book.abc{name}")


@needs_musescore
def test_musescore_files_are_read(tmp_path):
    path = tmp_path / "a.mscx"
    path.write_text(MUSESCORE)
    assert read_music(path).notes["pitch"].tolist() == [60]


FAKE = """
import os, time
LOG_OFF = 0
def enableLog(level): print("noise on standard output")
class toolkit:
    def setOptions(self, options): self.form = options["inputFrom"]
    def loadData(self, text):
        if text == "crash": os.abort()
        if text == "hang": time.sleep(600)
        while text == "spin": pass
        if text == "much": bytearray(1 << 40)
        return text != "nothing"
    def renderToMIDI(self): return "TVRoZA=="
    def renderToTimemap(self, options):
        return [{"qstamp": 4, "measureOn": "a-rend2"}, {"qstamp": 5}]
    def getElementAttr(self, name):
        if self.form == "mei": os.abort()
        return {"n": "1"} if name == "a" else {}
"""
LISTED = b"MThd", b'[[4, "1"]]'


@pytest.fixture
def worker(tmp_path):
    package = tmp_path / "verovio"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE)
    worker = ScoreWorker(str(package), seconds=60.0)
    yield worker
    worker.close()


@pytest.mark.parametrize("fault", ["crash", "much", "nothing"])
def test_a_reader_that_fails_takes_its_file_only(worker, fault):
    assert worker.convert("xml", "music") == LISTED
    with pytest.raises(MidiError, match=r"^(verovio fails|not a score)[^\n]*$"):
        worker.convert("xml", fault)
    assert worker.convert("xml", "music") == LISTED


def test_a_reader_that_fails_at_the_bars_has_read_the_notes(worker):
    assert worker.convert("mei", "music") == (b"MThd", b"")
    assert worker.convert("xml", "music") == LISTED


def test_a_reader_that_hangs_is_ended(worker):
    worker._seconds = 1.0
    with pytest.raises(MidiError, match=r"takes more than 1 s$"):
        worker.convert("xml", "hang")
    worker._seconds = 60.0
    assert worker.convert("xml", "music") == LISTED


@pytest.mark.skipif(sys.platform != "linux", reason="processor time is bounded on Linux")
def test_a_reader_that_nobody_waits_for_ends_itself(tmp_path):
    package = tmp_path / "verovio"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE)
    code = Path(verovio_worker.__file__).read_text()
    code = code.replace("SECONDS, SECONDS_A_MEGABYTE = 30.0", "SECONDS, SECONDS_A_MEGABYTE = 0.0")
    (tmp_path / "worker.py").write_text(code)
    pipe = subprocess.PIPE
    command = [sys.executable, str(tmp_path / "worker.py"), str(package)]
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
    assert process.stdin
    verovio_worker.send(process.stdin, b"xml", b"spin")
    assert process.wait(120) == -signal.SIGXCPU


def test_a_program_that_hangs_is_ended():
    with pytest.raises(MidiError, match=r"^cat takes more than 0\.2 s"):
        run_bounded(("tail", "-f", "/dev/null"), "cat", 0.2, 512)
    with pytest.raises(MidiError, match=r"^nothing cannot be run"):
        run_bounded(("/no/such/program",), "nothing", 1.0, 512)


@needs_verovio
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.mxl", b"PK\x03\x04 and no more", "a damaged archive"),
        ("a.musicxml", b"no music", "no notes"),
        ("a.mei", b"<mei/>", ""),
        ("a.krn", b"", ""),
        ("a.xml", b"\x00" * 100, ""),
    ],
)
def test_broken_scores_are_refused_on_one_line(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MidiError, match=rf"^{name}: {reason}[^\n]*$"):
        read_music(tmp_path / name)


def test_an_archive_that_grows_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("mmid.music.scores.reading.SCORE_BYTES", 100_000)
    monkeypatch.setattr("mmid.music.scores.reading._worker", lambda: pytest.fail("was read"))
    monkeypatch.setitem(converters.VEROVIO.__dict__, "find", lambda: "somewhere")
    with zipfile.ZipFile(tmp_path / "a.mxl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("score.xml", " " * 200_000)
    with pytest.raises(MidiError, match=r"^a\.mxl: larger than 100000 bytes when unpacked$"):
        read_music(tmp_path / "a.mxl")


@needs_abc2midi
@pytest.mark.parametrize("body", ["", "K:C", "K:C\n", "[|:(((", "\x00\xff" * 50])
def test_broken_tunes_are_refused_on_one_line(tmp_path, body):
    (tmp_path / "a.abc").write_text(f"X:1\n{body}", encoding="latin-1")
    with pytest.raises(MidiError, match=r"^a\.abc: [^\n]+$"):
        read_music(tmp_path / "a.abc")


def test_midi_files_are_read_as_ever(tmp_path):
    from mmid.music.midi import write_midi
    from mmid.music.notes import NOTE_DTYPE

    notes = np.array([(0, 1, 60, 90, 0), (1, 2, 64, 90, 0)], NOTE_DTYPE)
    write_midi(notes, tmp_path / "a.mid")
    assert np.array_equal(read_music(tmp_path / "a.mid").notes, read_midi(tmp_path / "a.mid").notes)


@needs_abc2midi
def test_tunes_are_written_as_midi(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "book.abc").write_text(BOOK)
    (tmp_path / "in" / "bad.abc").write_text("no tune")
    made = convert_files([tmp_path / "in"], tmp_path / "out")
    assert [path.name for path in made.written] == [
        "book-1 First Steps.mid",
        "book-7 Up - Down.mid",
    ]
    assert [bad.why for bad in made.bad] == ["no tune in it: no line begins with X:"]
    assert read_midi(made.written[1]).notes["pitch"].tolist() == [62, 66, 69]
