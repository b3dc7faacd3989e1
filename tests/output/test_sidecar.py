"""`mmid.output.sidecar`: a small file beside each recording, and nothing of anyone else's lost."""

from __future__ import annotations

import json

import pytest

from mmid import __version__
from mmid.errors import MmidError
from mmid.identify.answer import Identification, Match
from mmid.identify.batch import Answered
from mmid.output.sidecar import Origin, Sidecars

MATCH = Match("a.mid", 0.9, 0.5, 0.8, 0.3, 0.4, 1.0, 9.0, 1.5, -2, ("b.mid",))


def answered(path, confidence: float = 0.9, error: str | None = None) -> Answered:
    matches = () if error else (MATCH,)
    return Answered(Identification(str(path), 8.0, confidence > 0.5, matches, error=error))


@pytest.fixture
def sink() -> Sidecars:
    return Sidecars(Origin("f00d", "/index", 2.0, 6.0))


def test_a_sidecar_tells_the_answer_and_what_it_was_found_with(sink, tmp_path):
    given = answered(tmp_path / "take.wav")
    sink.take(given)
    sink.close()
    (path,) = tmp_path.iterdir()
    assert path.name == "take.wav.mmid.json"
    content = json.loads(path.read_text())
    answer = content.pop("answer")
    assert answer == json.loads(json.dumps(given.answer.to_dict()))
    assert content == {
        "mmid": __version__,
        "model": "f00d",
        "index": "/index",
        "start": 2.0,
        "duration": 6.0,
    }


def test_recordings_that_differ_by_their_suffix_have_one_each(sink, tmp_path):
    for name in ("take.wav", "take.flac"):
        sink.take(answered(tmp_path / name))
    assert len(list(tmp_path.iterdir())) == 2


def test_an_older_sidecar_is_replaced(sink, tmp_path):
    path = tmp_path / "take.wav.mmid.json"
    sink.take(answered(tmp_path / "take.wav", 0.9))
    sink.take(answered(tmp_path / "take.wav", 0.1))
    assert json.loads(path.read_text())["answer"]["matched"] is False


@pytest.mark.parametrize(
    "content", [b"notes of mine", b'{"mmid": 1}', b"[]", b"\xff\xfe", b"", b"[" * 100_000]
)
def test_a_file_that_is_not_mmids_is_left_as_it_is(sink, tmp_path, content):
    path = tmp_path / "take.wav.mmid.json"
    path.write_bytes(content)
    with pytest.raises(MmidError, match=r"not written by mmid, and left as it is"):
        sink.take(answered(tmp_path / "take.wav"))
    assert path.read_bytes() == content and len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_written_to_is_told(sink, tmp_path):
    with pytest.raises(MmidError, match=r"take\.wav\.mmid\.json: cannot be written \(No such file"):
        sink.take(answered(tmp_path / "gone" / "take.wav"))


def test_a_file_that_failed_has_none(sink, tmp_path):
    sink.take(answered(tmp_path / "take.wav", error="empty"))
    assert not list(tmp_path.iterdir())
