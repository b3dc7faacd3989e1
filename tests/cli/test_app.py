"""The command line, driven as a user does: exit statuses, what goes to stdout, what to stderr."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmid import __version__
from mmid.cli.app import app, main
from mmid.cli.evaluate import parse_lengths, parse_range
from mmid.errors import MmidError
from mmid.model.checkpoint import save_checkpoint

runner = CliRunner()


@pytest.fixture
def model(tmp_path, tiny_model) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, tiny_model.encoders, {})
    return path


@pytest.fixture
def index(tmp_path, midi_folder, model) -> Path:
    folder = tmp_path / "index"
    result = runner.invoke(
        app, ["build-index", str(midi_folder), "--index", str(folder), "--model", str(model)]
    )
    assert result.exit_code == 0, result.stderr
    assert "pieces" in result.stderr and result.stdout == ""
    return folder


def invoke(*arguments: object):
    return runner.invoke(app, [str(argument) for argument in arguments])


def test_version():
    assert invoke("--version").stdout.strip() == f"mmid {__version__}"


@pytest.mark.parametrize(
    "command", [[], ["query"], ["build-index"], ["train"], ["render"], ["demo"]]
)
def test_every_command_has_help_with_an_example(command):
    result = invoke(*command, "--help")
    assert result.exit_code == 0
    assert command == [] or f"Example: mmid {command[0]}" in result.stdout


def test_usage_errors_exit_with_2(index, model, recording):
    assert invoke("query").exit_code == 2
    assert invoke("query", recording, "--top", 0).exit_code == 2
    assert invoke("query", recording, "--search", "guess").exit_code == 2
    assert invoke("eval", "pieces", recording.parent, "--clips", "ten").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["query", "a.wav", "--index", "nowhere"], "nowhere: no index there; make one with"),
        (
            ["query", "a.wav", "--model", "other"],
            "no model 'other': give one of mmid-3, mmid-4, a .safetensors file",
        ),
        (["build-index", "nowhere"], "nowhere: no such folder"),
        (["query", "a.wav", "--device", "abacus"], "device 'abacus' is not available"),
    ],
)
def test_what_a_user_can_mend_is_one_line(arguments, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mmid", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    error = capsys.readouterr().err
    assert end.value.code == 1
    assert error.startswith(f"mmid: {message}") and error.count("\n") == 1


def test_the_environment_names_index_and_model(index, model, recording, monkeypatch):
    monkeypatch.setenv("MMID_INDEX", str(index))
    monkeypatch.setenv("MMID_MODEL", str(model))
    assert invoke("query", recording).exit_code == 0


def test_bad_midi_is_reported_and_left_out(tmp_path, midi_folder, model):
    (midi_folder / "broken.mid").write_bytes(b"MThd")
    build = ["build-index", midi_folder, "--index", tmp_path / "i", "--model", model]
    result = invoke(*build)
    assert result.exit_code == 0 and "left out: broken.mid: " in result.stderr
    assert (tmp_path / "i" / "manifest.json").exists()
    strict = invoke(*build, "--strict")
    assert strict.exit_code == 1 and "left out: broken.mid: " in strict.stderr
    assert "1 of 7 files could not be read" in strict.stderr


@pytest.fixture
def recorded(tmp_path, pieces, play, write_wav, model) -> Path:
    """Return an index of recordings of three pieces."""
    (tmp_path / "audio").mkdir()
    for number, piece in enumerate(pieces[:3]):
        write_wav(tmp_path / "audio" / f"{number}.wav", play(piece.midi.notes, 8.0))
    folder = tmp_path / "recorded"
    result = invoke("build-index", tmp_path / "audio", "--index", folder, "--model", model)
    assert result.exit_code == 0 and "3 recordings" in result.stderr
    return folder


def test_a_score_is_asked_of_an_index_of_recordings(recorded, model, midi_folder, recording):
    queries = [midi_folder / "piece 0.mid", recording]
    options = ["--index", recorded, "--model", model, "--duration", 5]
    result = invoke("query", *queries, *options, "--json")
    assert result.exit_code == 0 and result.stderr == ""
    for query, line in zip(queries, result.stdout.splitlines(), strict=True):
        answer = json.loads(line)
        assert answer["query"] == str(query) and answer["error"] is None
        assert {match["piece"] for match in answer["matches"]} <= {"0.wav", "1.wav", "2.wav"}


def test_what_to_index_can_be_told(tmp_path, midi_folder, recording, model):
    recording.rename(midi_folder / "sound.wav")
    options = ["--index", tmp_path / "both", "--model", model]
    assert "6 pieces" in invoke("build-index", midi_folder, *options).stderr
    told = invoke("build-index", midi_folder, *options, "--kind", "recordings", "--replace")
    assert told.exit_code == 0 and "1 recording," in told.stderr
    assert invoke("build-index", midi_folder, *options, "--kind", "scans").exit_code == 2


def test_bad_recordings_are_reported_and_left_out(tmp_path, recorded, model):
    (tmp_path / "audio" / "new.wav").write_bytes(b"RIFF")
    (tmp_path / "audio" / "1.wav").write_bytes(b"RIFF")
    result = invoke("build-index", tmp_path / "audio", "--index", recorded, "--model", model)
    assert result.exit_code == 1
    assert "left out: new.wav: " in result.stderr and "left out: 1.wav: " in result.stderr
    assert "2 recordings" in result.stderr and "1 of 4 files" in result.stderr
    again = invoke("build-index", "--index", recorded, "--model", model)
    assert again.exit_code == 0 and "left out: 2 files, " in again.stderr


def test_eval_pieces_asks_scores_of_recordings(tmp_path, recorded, index, model, midi_folder):
    rows = [f"r{n},{tmp_path}/audio/{n}.wav,piece {n}.mid" for n in range(2)]
    (midi_folder / "pairs.csv").write_text("\n".join(["id,audio,midi", *rows]))
    out = tmp_path / "results.json"
    arguments = [midi_folder, "--model", model, "--clips", "3,whole", "--out", out]
    arguments += ["--transpose", "0"]
    scores = [*arguments, "--direction", "scores"]
    result = invoke("eval", "pieces", *scores, "--index", recorded, "--absent")
    assert result.exit_code == 0, result.output
    short, whole = json.loads(out.read_text())
    assert short["clips"] == 6 and whole["clips"] == 2
    assert [clip["source"] for clip in whole["results"]] == [f"piece {n}.mid" for n in range(2)]
    assert 0 <= whole["auroc"] <= 1
    for options in ([*scores, "--index", index], [*arguments, "--index", recorded]):
        refused = invoke("eval", "pieces", *options)
        assert isinstance(refused.exception, MmidError)
        assert "needs an index built with --kind" in str(refused.exception)


@pytest.mark.parametrize("direction", ["recordings", "scores"])
def test_eval_pieces_goes_on_without_rows_it_cannot_use(
    tmp_path, recorded, index, model, midi_folder, direction
):
    rows = [f"r{n},{tmp_path}/audio/{n}.wav,piece {n}.mid" for n in range(2)]
    rows += [f"deaf,{tmp_path}/gone.wav,piece 3.mid", f"mute,{tmp_path}/audio/0.wav,gone.mid"]
    (midi_folder / "pairs.csv").write_text("\n".join(["id,audio,midi", *rows]))
    out = tmp_path / "results.json"
    arguments = [midi_folder, "--model", model, "--clips", "3", "--out", out]
    arguments += ["--transpose", "0"]
    where = index if direction == "recordings" else recorded
    result = invoke("eval", "pieces", *arguments, "--index", where, "--direction", direction)
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "left out: row deaf: " in result.stderr and "gone.wav" in result.stderr
    assert "left out: row mute: gone.mid: " in result.stderr
    assert "2 rows of " in result.stderr
    (scores,) = json.loads(out.read_text())
    assert scores["clips"] == 6 and len({clip["source"] for clip in scores["results"]}) == 2


@pytest.mark.parametrize("row", ["x,gone.wav,piece 0.mid", "x,gone.wav,gone.mid"])
def test_eval_pieces_without_a_row_it_can_use_is_an_error(tmp_path, index, model, midi_folder, row):
    (midi_folder / "pairs.csv").write_text(f"id,audio,midi\n{row}\n")
    result = invoke("eval", "pieces", midi_folder, "--model", model, "--index", index)
    assert result.exit_code == 1 and "no row of it can be used" in str(result.exception)


def test_lengths_and_ranges():
    assert parse_lengths("3,10.5,whole") == [3.0, 10.5, None]
    assert parse_range("0.8:1.25") == (0.8, 1.25)


@pytest.mark.parametrize("value", ["1", "2:1", "0:1", "a:b", "1:2:3"])
def test_bad_ranges_are_usage_errors(value, tmp_path):
    assert invoke("eval", "pieces", tmp_path, "--tempo", value).exit_code == 2


def test_eval_pieces_runs_over_pairs_and_gates(tmp_path, index, model, midi_folder, recording):
    name = sorted(midi_folder.rglob("*.mid"))[0]
    (midi_folder / "pairs.csv").write_text(
        f"id,audio,midi,kind\nfirst,{recording},{name.relative_to(midi_folder)},reel\n"
    )
    out = tmp_path / "results.json"
    arguments = [midi_folder, "--index", index, "--model", model, "--clips", "2,whole"]
    result = invoke("eval", "pieces", *arguments, "--absent", "--out", out)
    assert result.exit_code == 0, result.output
    short, whole = json.loads(out.read_text())
    assert short["clips"] == 3 and whole["clips"] == 1
    assert whole["results"][0]["source"] == "first" and "reel" in result.stdout
    assert [row["kinds"][0]["kind"] for row in (short, whole)] == ["reel", "reel"]
    assert 0 <= whole["auroc"] <= 1
    gated = invoke("eval", "pieces", *arguments, "--min-top1", 1.0, "--json")
    lowest = min(row["top1"] for row in json.loads(gated.stdout))
    assert (lowest < 1) == isinstance(gated.exception, MmidError)
