"""Small scores of our own, as text, for tests of what reads them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from mmid.music.scores.converters import find_abc2midi, find_musescore, find_verovio

needs_verovio = pytest.mark.skipif(not find_verovio(), reason="needs the extra scores (verovio)")
needs_abc2midi = pytest.mark.skipif(not find_abc2midi(), reason="needs the extra scores (symusic)")
needs_musescore = pytest.mark.skipif(not find_musescore(), reason="needs MuseScore")

BOOK = """%abc-2.1
A file of two tunes.
M:4/4
L:1/4

X:1
T:First Steps
C:A. Nobody
Q:1/4=120
R:hornpipe
K:C
"C"CDEF|[1 G4:|[2 {A}c4|]

X:7
T:Up / Down
K:D
D2-D F|A4|]
"""

KERN = """!!!COM: Nobody, A.
!!!OTL: A Round
**kern\t**kern
*M4/4\t*M4/4
*MM60\t*MM60
4c\t1C
4d\t.
4e\t.
4f\t.
=\t=
1g\t1E
==\t==
*-\t*-
"""

MEI = """<?xml version="1.0" encoding="UTF-8"?>
<mei xmlns="http://www.music-encoding.org/ns/mei" meiversion="5.0">
 <meiHead><fileDesc><titleStmt><title>A Tune</title><composer>A. Nobody</composer></titleStmt>
 <pubStmt/></fileDesc></meiHead>
 <music><body><mdiv><score>
  <scoreDef meter.count="4" meter.unit="4" midi.bpm="60"><staffGrp>
   <staffDef n="1" lines="5" clef.shape="G" clef.line="2"/></staffGrp></scoreDef>
  <section><measure n="1"><staff n="1"><layer n="1">
   <note pname="c" oct="4" dur="2"/><note pname="g" oct="4" dur="2"/>
  </layer></staff></measure></section>
 </score></mdiv></body></music>
</mei>
"""

MUSESCORE = """<?xml version="1.0" encoding="UTF-8"?>
<museScore version="3.01"><Score><Division>480</Division>
<Part><Staff id="1"><StaffType group="pitched"/></Staff><trackName>Piano</trackName>
<Instrument><trackName>Piano</trackName><Channel><program value="0"/></Channel></Instrument></Part>
<Staff id="1"><Measure><voice><TimeSig><sigN>4</sigN><sigD>4</sigD></TimeSig>
<Chord><durationType>whole</durationType><Note><pitch>60</pitch><tpc>14</tpc></Note></Chord>
</voice></Measure></Staff></Score></museScore>
"""

_CHORD = (
    "<Chord><durationType>{length}</durationType>"
    "<Note><pitch>{pitch}</pitch><tpc>{tpc}</tpc></Note></Chord>"
)
_UPBEAT = '<Measure len="1/4"><irregular>1</irregular><voice>'
_FIRST = "<startRepeat/><voice>" + _CHORD.format(length="whole", pitch=60, tpc=14)
_SECOND = _CHORD.format(length="whole", pitch=62, tpc=16)
REPEATED_MUSESCORE = (
    MUSESCORE.replace("<Measure><voice>", _UPBEAT)
    .replace("whole", "quarter")
    .replace(
        "</Measure>",
        f"</Measure><Measure>{_FIRST}</voice></Measure>"
        f"<Measure><endRepeat>2</endRepeat><voice>{_SECOND}</voice></Measure>",
    )
)
"""An upbeat, and two bars that are repeated."""

NOTE = (
    "<note>{more}<pitch><step>{step}</step><octave>4</octave></pitch>"
    "<duration>{length}</duration><voice>1</voice><type>{type}</type>{after}</note>"
)


def note(step: str, beats: int = 1, more: str = "", after: str = "") -> str:
    """Return a note of MusicXML, of so many quarters."""
    names = {1: "quarter", 2: "half", 4: "whole"}
    return NOTE.format(step=step, length=beats, type=names[beats], more=more, after=after)


def music_xml(*measures: str, attributes: str = "", part: str = "Voice") -> str:
    """Return MusicXML of one part in 4/4, at 60 to the minute."""
    first = (
        "<attributes><divisions>1</divisions><key><fifths>0</fifths></key>"
        "<time><beats>4</beats><beat-type>4</beat-type></time>"
        f"<clef><sign>G</sign><line>2</line></clef>{attributes}</attributes>"
        "<direction><direction-type><metronome><beat-unit>quarter</beat-unit>"
        "<per-minute>60</per-minute></metronome></direction-type>"
        '<sound tempo="60"/></direction>'
    )
    bars = "".join(
        f'<measure number="{n}">{first if n == 1 else ""}{bar}</measure>'
        for n, bar in enumerate(measures, 1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<score-partwise version="4.0">'
        "<work><work-title>Small &amp; Plain</work-title></work>"
        '<identification><creator type="composer">A. Nobody</creator></identification>'
        f'<part-list><score-part id="P1"><part-name>{part}</part-name></score-part></part-list>'
        f'<part id="P1">{bars}</part></score-partwise>'
    )


def mxl(path: Path, text: str) -> Path:
    """Write MusicXML as a compressed file."""
    container = (
        '<?xml version="1.0"?><container><rootfiles><rootfile full-path="in/score.xml"/>'
        "</rootfiles></container>"
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("META-INF/container.xml", container)
        archive.writestr("in/score.xml", text)
    return path
