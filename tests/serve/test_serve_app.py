"""`mmid.serve.app`: what is asked over HTTP, what is answered, and what is refused in a line."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import shutil

import mido
import pytest
from servers import HERE
from starlette.testclient import TestClient

from mmid.identify.identifier import Identifier
from mmid.index.build import update_index
from mmid.index.folder import LibraryIndex
from mmid.index.store import store_at
from mmid.output.answers import ANSWER_COLUMNS
from mmid.serve.app import make_app
from mmid.serve.library import ServedLibrary
from mmid.serve.openapi import DESCRIPTION
from mmid.serve.uploads import Limits


def line(answer) -> str:
    """Return the one line of an error."""
    [(name, text)] = answer.json().items()
    assert name == "error" and text and "\n" not in text
    return text


def event(text: str) -> tuple[str, dict]:
    name, data = text.strip().split("\n")
    return name.removeprefix("event: "), json.loads(data.removeprefix("data: "))


# ---- what a recording is


def test_an_answer_is_that_of_the_command_line(client, sent, recording, tmp_path, library):
    model = library._model
    local = Identifier(model, LibraryIndex(tmp_path / "index", model)).identify_file(recording)
    answer = client.post("/identify", params={"name": str(recording)}, content=sent)
    assert answer.status_code == 200
    said = answer.json()
    expected = json.loads(json.dumps(local.to_dict()))
    assert {name: said[name] for name in expected} == expected
    assert said["sentence"] and said["verdict"]


def test_a_midi_file_is_known_by_its_name(client, midi_folder):
    content = (midi_folder / "piece 2.mid").read_bytes()
    assert client.post("/identify", params={"name": "x.mid"}, content=content).status_code == 200
    assert "MIDI" in line(client.post("/identify", params={"name": "x.wav"}, content=content))


def test_options_are_those_of_the_search(client, sent):
    given = {"top": 2, "duration": 4, "start": 1, "transpose": "3", "min_confidence": 0}
    answer = client.post("/identify", params=given, content=sent).json()
    assert len(answer["matches"]) <= 2 and answer["keys"] == [3]
    assert answer["seconds"] == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize(
    "given",
    [
        *({"top": "0"}, {"top": "x"}, {"start": "-1"}, {"start": "nan"}, {"duration": "inf"}),
        *({"transpose": "25"}, {"transpose": "up"}, {"min_confidence": "2"}, {"search": "fast"}),
        *({"vote": ""}, {"name": "x" * 5_000}, {"name": ""}),
    ],
)
def test_what_is_out_of_range_is_refused(client, sent, given):
    answer = client.post("/identify", params=given, content=sent)
    assert answer.status_code == 422 and line(answer)


@pytest.mark.parametrize("content", [b"", b"no sound", b"RIFF\0\0\0\0WAVEfmt "])
def test_what_is_no_recording_is_named_as_its_sender_does(client, content):
    answer = client.post("/identify", params={"name": "a/b\n.wav"}, content=content)
    assert answer.status_code == 422
    assert line(answer).startswith("a/b\\n.wav: ") and "/proc" not in line(answer)


def test_what_the_page_shows_comes_with_the_answer(client, sent):
    shown = client.post("/identify", params={"shown": "1"}, content=sent).json()["shown"]
    [row] = csv.DictReader(io.StringIO(shown["csv"]))
    assert tuple(row) == ANSWER_COLUMNS and row["query"] == "recording"
    song = mido.MidiFile(file=io.BytesIO(base64.b64decode(shown["midi"])))
    struck = [one for one in song if one.type == "note_on" and one.velocity]
    assert len(struck) == len(shown["notes"]) > 0
    assert all(0 <= begin < end for begin, end, _, _ in shown["notes"])
    assert 'class="roll"' in shown["html"] and 'class="matches"' in shown["html"]


def test_names_are_escaped_in_what_the_page_shows(tmp_path, midi_folder, transcribing_model, sent):
    hostile = "<img src=x onerror=alert(1)>"
    for path in midi_folder.rglob("*.mid"):
        path.rename(path.with_name(f"{hostile}{path.name}"))
    update_index(tmp_path / "index", [midi_folder], transcribing_model, jobs=1)
    library = ServedLibrary(store_at(tmp_path / "index"), transcribing_model)
    with TestClient(make_app(library), base_url=HERE) as client:
        answer = client.post("/identify", params={"shown": "1", "name": hostile}, content=sent)
    html = answer.json()["shown"]["html"]
    assert "&lt;img" in html and "<img" not in html


# ---- bounds


def test_what_says_that_it_is_too_large_is_refused_before_it_comes(library):
    with TestClient(make_app(library, limits=Limits(bytes=10)), base_url=HERE) as client:
        assert client.post("/identify", content=b"x" * 11).status_code == 413


def test_what_turns_out_too_large_is_refused(library):
    limits = Limits(bytes=1_000)
    with TestClient(make_app(library, limits=limits), base_url=HERE) as client:
        answer = client.post("/identify", content=(b"x" * 100 for _ in range(20)))
    assert answer.status_code == 413 and "larger" in line(answer)
    assert limits.used == 0


def test_no_more_is_held_than_there_is_room_for(library, sent):
    limits = Limits(held=1_000)
    with TestClient(make_app(library, limits=limits), base_url=HERE) as client:
        answer = client.post("/identify", content=sent)
        assert answer.status_code == 503 and "try again" in line(answer)
    assert limits.used == 0


def test_nothing_of_a_recording_stays(client, sent, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    assert client.post("/identify", params={"shown": "1"}, content=sent).status_code == 200
    assert client.post("/sound", content=sent).status_code == 200
    assert list((tmp_path / "temporary").iterdir()) == []


# ---- long recordings, and sound


def test_a_timeline_comes_as_events(client, sent):
    given = {"name": "concert.wav", "every": 6}
    with client.stream("POST", "/timeline", params=given, content=sent) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [event(text) for text in "".join(answer.iter_text()).split("\n\n") if text]
    name, timeline = events[-1]
    assert name == "timeline" and timeline["query"] == "concert.wav"
    assert timeline["seconds"] == pytest.approx(8, abs=0.1)
    assert timeline["csv"].startswith("query,seconds,from,to,piece")
    assert all(name == "progress" for name, _ in events[:-1])


def test_a_timeline_that_fails_says_why(client):
    with client.stream("POST", "/timeline", params={"name": "a.wav"}, content=b"no") as answer:
        events = [event(text) for text in "".join(answer.iter_text()).split("\n\n") if text]
    assert events[-1][0] == "error" and events[-1][1]["error"].startswith("a.wav: ")
    assert client.post("/timeline", params={"every": "1"}, content=b"no").status_code == 422


def test_sound_is_made_playable(client, sent):
    sound = client.post("/sound", content=sent)
    assert sound.headers["content-type"] == "audio/mpeg" and len(sound.content) > 1_000
    assert line(client.post("/sound", params={"name": "x"}, content=b"no")).startswith("x: ")


# ---- the library


def test_the_library_is_searched_and_paged(client):
    whole = client.get("/library").json()
    assert whole["kind"] == "midi" and whole["items"] == whole["found"] == 6
    names = [piece["name"] for piece in whole["pieces"]]
    assert names == sorted(names) and "more/piece 5.mid" in names
    part = client.get("/library", params={"offset": 2, "limit": 2}).json()
    assert [piece["name"] for piece in part["pieces"]] == names[2:4] and part["found"] == 6
    found = client.get("/library", params={"search": "MORE 5"}).json()
    assert [piece["name"] for piece in found["pieces"]] == ["more/piece 5.mid"]
    assert client.get("/library", params={"limit": "many"}).status_code == 422


def test_a_folder_is_added_and_left_out_files_are_listed(empty, midi_folder, sent):
    (midi_folder / "broken.mid").write_bytes(b"no notes")
    shutil.copy(midi_folder / "piece 0.mid", midi_folder / "copy.mid")
    with TestClient(make_app(empty), base_url=HERE) as client:
        assert client.get("/library").json()["items"] == 0
        answer = client.post("/identify", content=sent)
        assert answer.status_code == 409 and "add a folder" in line(answer)
        built = client.post("/build", json={"folder": str(midi_folder)}).json()
        assert (built["added"], built["left_out"], built["items"]) == (7, 1, 7)
        library = client.get("/library").json()
        assert library["folders"] == [str(midi_folder)] and library["left_out"] == 1
        copies = {piece["name"]: piece["copies"] for piece in library["pieces"]}
        assert copies["copy.mid"] == ["piece 0.mid"] and copies["piece 1.mid"] == []
        [left] = client.get("/library/left-out").json()["files"]
        assert left["name"] == "broken.mid" and left["reason"]
        assert client.post("/identify", content=sent).status_code == 200


def test_pieces_and_folders_are_removed(client, midi_folder):
    answer = client.post("/library/remove", json={"names": ["piece 1.mid"]})
    assert answer.json()["removed"] == ["piece 1.mid"]
    assert client.get("/library").json()["items"] == 5
    assert "no piece" in line(client.post("/library/remove", json={"names": ["piece 1.mid"]}))
    assert "nothing would be left" in line(client.post("/library/remove", json={"names": ["*"]}))
    assert client.get("/library").json()["items"] == 5


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        *(("relative/folder", "whole path"), ("", "whole path"), ("/a\0b", "whole path")),
        *(("/nowhere/at/all", "no such folder"), (3, "folder: give")),
    ],
)
def test_a_folder_that_cannot_be_added_is_refused(client, folder, said):
    answer = client.post("/build", json={"folder": folder})
    assert answer.status_code == 422 and said in line(answer)


def test_only_json_is_taken_for_json(client):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert client.post("/build", content=b"{}", headers=form).status_code == 415
    said = {"Content-Type": "application/json"}
    for content, status in ((b"{", 400), (b"[1]", 422), (b"[" * 100_000, 400), (b" " * 2**21, 413)):
        assert client.post("/build", content=content, headers=said).status_code == status


def test_what_another_process_built_is_served(client, midi_folder, tmp_path, library):
    (midi_folder / "piece 0.mid").unlink()
    update_index(tmp_path / "index", [midi_folder], library._model, jobs=1)
    assert client.get("/library").json()["items"] == 5


# ---- everything else


def test_nothing_else_is_served(client):
    for path in ("/assets/index.html", "/assets/../app.py", "/assets/%2e%2e/x", "/etc/passwd"):
        answer = client.get(path)
        assert answer.status_code == 404 and line(answer)
    answer = client.get("/identify")
    assert answer.status_code == 405 and line(answer)


def test_a_fault_of_the_server_is_one_line(library, sent, monkeypatch):
    monkeypatch.setattr("mmid.serve.app.identified", lambda *given, **more: 1 / 0)
    app = make_app(library)
    with TestClient(app, base_url=HERE, raise_server_exceptions=False) as client:
        answer = client.post("/identify", content=sent)
    assert answer.status_code == 500 and line(answer).startswith("mmid failed")


def test_every_route_is_described(client):
    routes = {
        (route.path, method.lower())
        for route in client.app.routes
        for method in route.methods - {"HEAD"}
        if route.path not in ("/", "/assets/{name}")
    }
    described = {(path, method) for path, of in DESCRIPTION["paths"].items() for method in of}
    assert described == routes
    assert client.get("/openapi.json").json() == DESCRIPTION


def test_an_answer_is_as_it_is_described(client, sent):
    answer = client.post("/identify", params={"shown": "1"}, content=sent).json()
    known = DESCRIPTION["components"]["schemas"]
    assert set(answer) == set(known["Answer"]["properties"])
    assert set(answer["matches"][0]) <= set(known["Match"]["properties"])
    assert set(client.get("/library").json()) == set(known["Library"]["properties"])


def test_names_that_are_no_unicode_are_served(empty, midi_folder):
    path = os.fsencode(midi_folder / "piece 0.mid")
    os.rename(path, os.fsencode(midi_folder) + b"/odd \xff.mid")
    with TestClient(make_app(empty), base_url=HERE) as client:
        client.post("/build", json={"folder": str(midi_folder)})
        names = [piece["name"] for piece in client.get("/library").json()["pieces"]]
    assert "odd \udcff.mid" in names
