"""Rendering a library to audio files: what is written, what is kept, what is refused."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import av
import numpy as np
import pytest
from synth import SOUNDFONT, needs_fluidsynth
from typer.testing import CliRunner

from mmid.cli.app import app
from mmid.errors import MmidError, RenderError
from mmid.evaluation import rendering
from mmid.evaluation.rendering import RenderReport, render_library
from mmid.evaluation.sources import open_sources
from mmid.music.audio_writer import write_audio
from mmid.music.grid import DEFAULT
from mmid.music.midi import read_midi, write_midi
from mmid.music.synthesizer import RELEASE_SECONDS, Synthesizer

NAMES = ("a.mid", "b.mid", "more/c.mid")


@pytest.fixture
def write_tune(draw_notes):
    """Return a function that writes a tune of about a second."""

    def write(path: Path, seed: int) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_midi(draw_notes(seed, count=6, seconds=1.0), path)
        return path

    return write


@pytest.fixture
def library(tmp_path, write_tune) -> Path:
    """Return a folder of three tunes, one of them in a folder of its own."""
    for seed, name in enumerate(NAMES):
        write_tune(tmp_path / "library" / name, seed)
    return tmp_path / "library"


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def render(folders: Path | list[Path], out: Path, **options) -> RenderReport:
    settings = {"sample_rate": 8_000, "jobs": 1, **options}
    soundfont = settings.pop("soundfont", SOUNDFONT)
    return render_library(
        folders if isinstance(folders, list) else [folders], out, soundfont, **settings
    )


def played(path: Path, rate: int) -> np.ndarray:
    with Synthesizer(SOUNDFONT, rate) as synthesizer:
        return synthesizer.render(read_midi(path).notes, stereo=True)


def decoded(path: Path) -> tuple[np.ndarray, tuple]:
    with av.open(str(path)) as container:
        [stream] = container.streams
        frames = [frame.to_ndarray().reshape(-1, 2) for frame in container.decode(stream)]
        facts = (stream.codec_context.name, stream.rate, stream.channels, stream.format.name)
    return np.concatenate(frames), facts


def files(folder: Path, *suffixes: str) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and (not suffixes or path.suffix in suffixes)
    )


def pairs(folder: Path) -> list[dict[str, str]]:
    with (folder / "pairs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def interrupt_after(count: int):
    def tell(what: str, done: int, total: int) -> None:
        if done == count:
            raise KeyboardInterrupt

    return tell


@needs_fluidsynth
@pytest.mark.parametrize(("encoding", "codec"), [("wav", "pcm_s16le"), ("flac", "flac")])
def test_the_audio_is_cd_quality_and_sample_for_sample_what_fluidsynth_played(
    library, out, encoding, codec
):
    report = render(library, out, sample_rate=44_100, encoding=encoding)
    assert (report.made, report.kept, report.bad) == (3, 0, ())
    seconds = 0.0
    for name in NAMES:
        samples, facts = decoded((out / name).with_suffix(f".{encoding}"))
        assert facts == (codec, 44_100, 2, "s16")
        expected = played(library / name, 44_100)
        np.testing.assert_array_equal(samples, expected * 32_768)
        assert np.abs(expected[:, 0] - expected[:, 1]).max() > 2e-4, "not two equal channels"
        seconds += len(samples) / 44_100
    assert report.seconds == pytest.approx(seconds)
    assert files(out) == sorted(
        [*(f"{n[:-4]}.{encoding}" for n in NAMES), "pairs.csv", "renderings.jsonl"]
    )


@needs_fluidsynth
def test_mono_is_the_mean_of_stereo_to_the_bit(library):
    notes = read_midi(library / "a.mid").notes
    with Synthesizer(SOUNDFONT, 22_050) as synthesizer:
        mono = synthesizer.render(notes)
    with Synthesizer(SOUNDFONT, 22_050) as synthesizer:
        stereo = synthesizer.render(notes, stereo=True)
    assert stereo.dtype == mono.dtype == np.float32
    assert stereo.shape == (len(mono), 2)
    assert len(mono) == int((float(notes["offset"].max()) + RELEASE_SECONDS) * 22_050)
    assert np.abs(mono).max() > 0.01
    np.testing.assert_array_equal(stereo.mean(1), mono)


@needs_fluidsynth
def test_a_second_run_renders_nothing(library, out):
    render(library, out)
    before = {name: (out / name).stat().st_mtime_ns for name in files(out, ".wav")}
    told = []
    report = render(library, out, progress=lambda *facts: told.append(facts))
    assert (report.made, report.kept, told) == (0, 3, [])
    assert {name: (out / name).stat().st_mtime_ns for name in files(out, ".wav")} == before
    assert len(pairs(out)) == 3


@needs_fluidsynth
def test_changed_and_deleted_files_are_rendered_again(library, out, write_tune):
    render(library, out)
    before = {name: (out / name).read_bytes() for name in files(out, ".wav")}
    stamp = (out / "more/c.wav").stat().st_mtime_ns
    write_tune(library / "a.mid", 77)
    (out / "b.wav").unlink()
    report = render(library, out)
    assert (report.made, report.kept) == (2, 1)
    assert (out / "a.wav").read_bytes() != before["a.wav"]
    assert (out / "b.wav").read_bytes() == before["b.wav"]
    assert (out / "more/c.wav").stat().st_mtime_ns == stamp
    assert render(library, out).made == 0


@needs_fluidsynth
def test_an_interrupted_run_goes_on_where_it_stopped(library, out):
    with pytest.raises(KeyboardInterrupt):
        render(library, out, progress=interrupt_after(2))
    assert files(out) == ["a.wav", "b.wav", "pairs.csv", "renderings.jsonl"]
    assert [row["id"] for row in pairs(out)] == ["a", "b"]
    report = render(library, out)
    assert (report.made, report.kept) == (1, 2)


@needs_fluidsynth
def test_nothing_half_written_stays(library, out, monkeypatch):
    def stop_half_way(path: Path, *facts: object, **more: object) -> None:
        write_audio(path, *facts, **more)
        if path.parent.name == "more":
            raise KeyboardInterrupt

    monkeypatch.setattr(rendering, "write_audio", stop_half_way)
    with pytest.raises(KeyboardInterrupt):
        render(library, out)
    assert files(out) == ["a.wav", "b.wav", "pairs.csv", "renderings.jsonl"]


@needs_fluidsynth
def test_what_a_killed_run_left_is_no_hindrance(library, out):
    render(library, out)
    (out / "more" / "mmid.4711.part").write_bytes(b"RIFF")
    with (out / "renderings.jsonl").open("a") as file:
        file.write('{"midi": "../libr')
    (out / "more" / "c.wav").unlink()
    assert (render(library, out).made, render(library, out).made) == (1, 0)
    assert files(out, ".part") == []


@needs_fluidsynth
def test_an_older_rendering_stays_until_the_new_one_is_whole(library, out, write_tune, monkeypatch):
    render(library, out)
    before = (out / "a.wav").read_bytes()
    write_tune(library / "a.mid", 77)

    def fail(path: Path, *_: object, **more: object) -> None:
        path.write_bytes(b"RIFF")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(rendering, "write_audio", fail)
        render(library, out)
    assert (out / "a.wav").read_bytes() == before
    assert [row["id"] for row in pairs(out)] == ["b", "more/c"], "it is not of that file now"
    assert render(library, out).made == 1


@needs_fluidsynth
def test_a_rendering_is_the_same_in_any_company(library, out, tmp_path):
    render(library, out)
    for name in NAMES:
        render(library / name, tmp_path / "alone" / name)
        [alone] = (tmp_path / "alone" / name).glob("*.wav")
        assert alone.read_bytes() == (out / name).with_suffix(".wav").read_bytes()


@needs_fluidsynth
def test_worker_processes_render_the_same(tmp_path, out, write_tune):
    for seed in range(8):
        write_tune(tmp_path / "many" / f"{seed}.mid", seed)
    told = []
    report = render(tmp_path / "many", out, jobs=2, progress=lambda *facts: told.append(facts))
    assert report.made == len(pairs(out)) == 8
    assert told[-1] == ("Rendering", 8, 8)
    samples, _ = decoded(out / "7.wav")
    np.testing.assert_array_equal(samples, played(tmp_path / "many/7.mid", 8_000) * 32_768)
    assert render(tmp_path / "many", out, jobs=2).made == 0


@needs_fluidsynth
@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"sample_rate": 11_025}, r"sample rate 8000 \(now 11025\); give these settings or"),
        ({"encoding": "flac"}, r"otherwise: format wav \(now flac\); give these settings or"),
        ({"soundfont": "Other.sf2"}, r"soundfont TimGM6mb\.sf2 \(now Other\.sf2\); give"),
        ({"soundfont": "TimGM6mb.sf2"}, r"TimGM6mb\.sf2 \(now another TimGM6mb\.sf2\); give"),
    ],
)
def test_renderings_made_with_other_settings_are_not_mixed(library, out, tmp_path, other, message):
    render(library, out)
    before = {name: (out / name).read_bytes() for name in files(out)}
    if "soundfont" in other:
        other = {"soundfont": tmp_path / other["soundfont"]}
        other["soundfont"].write_bytes(SOUNDFONT.read_bytes() + b"\0")
    with pytest.raises(MmidError, match=message) as error:
        render(library, out, **other)
    assert "\n" not in str(error.value) and str(out) in str(error.value)
    assert {name: (out / name).read_bytes() for name in files(out)} == before


@needs_fluidsynth
def test_a_soundfont_is_known_by_its_content(library, out, tmp_path):
    render(library, out)
    copy = tmp_path / "copy.sf2"
    copy.write_bytes(SOUNDFONT.read_bytes())
    assert render(library, out, soundfont=copy).made == 0


def test_a_folder_of_other_things_is_left_alone(library, out):
    out.mkdir()
    (out / "pairs.csv").write_text("id,audio,midi\n")
    with pytest.raises(MmidError, match=r"out: not empty, and not a folder of renderings.*--out"):
        render(library, out)
    assert files(out) == ["pairs.csv"] and (out / "pairs.csv").read_text() == "id,audio,midi\n"
    (out / "renderings.jsonl").write_text('{"format": "mmid-renderings-99"}\n')
    with pytest.raises(MmidError, match="not a folder of renderings of this version of mmid"):
        render(library, out)


def test_a_file_is_no_folder_for_renderings(library, out):
    out.write_text("mine")
    with pytest.raises(MmidError, match="out: not a folder to use"):
        render(library, out)


@needs_fluidsynth
def test_bad_files_are_left_out_and_named(library, out):
    (library / "broken.mid").write_bytes(b"MThd")
    report = render(library, out)
    assert report.made == 3
    [bad] = report.bad
    assert bad.path.name == "broken.mid" and "broken.mid" in bad.reason
    assert [row["id"] for row in pairs(out)] == ["a", "b", "more/c"]
    assert len(render(library, out).bad) == 1, "said again as long as it is there"


@needs_fluidsynth
def test_a_file_that_went_bad_leaves_the_pairs(library, out):
    render(library, out)
    (library / "a.mid").write_bytes(b"MThd")
    assert len(render(library, out).bad) == 1
    assert [row["id"] for row in pairs(out)] == ["b", "more/c"]


@needs_fluidsynth
def test_nothing_but_bad_files_is_an_error_and_binds_to_no_settings(tmp_path, library, out):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "x.mid").write_bytes(b"MThd")
    with pytest.raises(MmidError, match=r"no MIDI file that can be rendered; .*x\.mid"):
        render(bad, out)
    assert render(library, out, sample_rate=11_025).made == 3


def test_music_too_long_to_hold_is_reported(library, out, monkeypatch):
    monkeypatch.setattr(rendering, "MAX_SECONDS", 0.1)
    with pytest.raises(MmidError, match=r"a\.mid: lasts 0\.0 hours, more than"):
        render(library, out)


@needs_fluidsynth
def test_a_file_that_cannot_be_written_says_so(library, out):
    render(library / "b.mid", out)
    (out / "a.wav").mkdir()
    with pytest.raises(RenderError, match=r"a\.wav: cannot be written \("):
        render(library, out)
    assert files(out, ".part") == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate": 1_000}, "cannot render at 1000 Hz, only at 8000 to 96000 Hz"),
        ({"encoding": "mp3"}, "cannot render to 'mp3', only to wav or flac"),
        ({"soundfont": Path("none.sf2")}, r"none\.sf2: No such file"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(library, out, options, message):
    with pytest.raises(RenderError, match=message):
        render(library, out, **options)
    assert not out.exists()


@needs_fluidsynth
def test_the_pairs_are_what_an_evaluation_reads(library, out):
    render(library, out, sample_rate=44_100, encoding="flac")
    count, opened = open_sources(out, None, DEFAULT, (1.0, 1.0), "all", 0)
    sources = list(opened)
    assert count == len(sources)
    assert [source.name for source in sources] == ["a", "b", "more/c"]
    for name, source in zip(NAMES, sources, strict=True):
        assert source.right == {hashlib.sha256((library / name).read_bytes()).hexdigest()}
        expected = len(played(library / name, DEFAULT.sample_rate))
        assert len(source.samples) == pytest.approx(expected, abs=2)


@needs_fluidsynth
def test_pairs_lead_to_their_files_through_links_and_dots(library, out, tmp_path, monkeypatch):
    (tmp_path / "deep" / "down").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "down", target_is_directory=True)
    monkeypatch.chdir(library / "more")
    render([Path("."), Path("../a.mid")], tmp_path / "link" / "out")
    assert files(tmp_path / "deep/down/out", ".wav") == ["a.wav", "more/c.wav"]
    _, sources = open_sources(tmp_path / "link" / "out", None, DEFAULT, (1.0, 1.0), "all", 0)
    assert [source.name for source in sources] == ["a", "more/c"]


@needs_fluidsynth
def test_files_of_one_name_do_not_overwrite_each_other(tmp_path, out, write_tune):
    names = ("A.kar", "a.mid", "a.mid.midi", "a.midi")
    for seed, name in enumerate(names):
        write_tune(tmp_path / "same" / name, seed)
    assert render(tmp_path / "same", out).made == 4
    rows = pairs(out)
    assert len({row["audio"].casefold() for row in rows}) == 4
    assert len({row["id"] for row in rows}) == 4
    for row in rows:
        samples, _ = decoded(out / row["audio"])
        np.testing.assert_array_equal(samples, played(out / row["midi"], 8_000) * 32_768)


@needs_fluidsynth
def test_a_file_that_comes_later_takes_no_name(tmp_path, out, write_tune):
    one = write_tune(tmp_path / "x" / "a.midi", 1)
    render(one, out)
    before = (out / "a.wav").read_bytes()
    two = write_tune(tmp_path / "y" / "a.mid", 2)
    assert render(two, out).made == 1
    assert (out / "a.wav").read_bytes() == before
    assert {(r["audio"], r["midi"]) for r in pairs(out)} == {
        ("a.wav", "../x/a.midi"),
        ("a.mid.wav", "../y/a.mid"),
    }


@needs_fluidsynth
def test_a_name_that_is_not_utf8_is_reported(library, out):
    try:
        os.rename(os.fsencode(library / "b.mid"), os.fsencode(library) + b"/\xff.mid")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    report = render(library, out)
    assert report.made == 2
    assert [bad.reason for bad in report.bad] == [r"\udcff.mid: its name is not UTF-8"]


def invoke(*arguments: object):
    return CliRunner().invoke(app, ["render", *map(str, arguments)])


@needs_fluidsynth
def test_the_command_prints_the_folder_and_a_summary(library, out):
    result = invoke(library, "--out", out, "--soundfont", SOUNDFONT, "--format", "flac")
    assert (result.exit_code, result.stdout) == (0, f"{out}\n")
    assert "3 files rendered with TimGM6mb.sf2, 0 there already; 0.0 hours" in result.stderr
    assert decoded(out / "a.flac")[1] == ("flac", 44_100, 2, "s16")
    (library / "broken.mid").write_bytes(b"MThd")
    result = invoke(library, "--out", out, "--soundfont", SOUNDFONT, "--format", "flac")
    assert (result.exit_code, result.stdout) == (1, f"{out}\n")
    assert "left out: broken.mid" in result.stderr
    assert "0 files rendered with TimGM6mb.sf2, 3 there already" in result.stderr
    result = invoke(library, "--out", out, "--soundfont", SOUNDFONT, "--sample-rate", 22_050)
    assert result.exit_code == 1 and isinstance(result.exception, MmidError)


@needs_fluidsynth
def test_the_command_takes_the_first_soundfont_by_default(library, out, monkeypatch):
    monkeypatch.setattr(
        "mmid.music.synthesizer.find_soundfonts", lambda: [SOUNDFONT, Path("second.sf2")]
    )
    assert invoke(library, "--out", out, "--sample-rate", 8_000).exit_code == 0
    assert '"soundfont": "TimGM6mb.sf2"' in (out / "renderings.jsonl").read_text()


@pytest.mark.parametrize("wrong", [("--format", "mp3"), ("--sample-rate", 100)])
def test_the_command_refuses_what_it_cannot_write(library, out, wrong):
    assert invoke(library, "--out", out, *wrong).exit_code == 2
    assert invoke(library).exit_code == 2, "a folder for the audio must be named"
    assert not out.exists()


def test_the_command_has_help_with_an_example():
    help_text = invoke("--help").stdout
    assert "Example: mmid render" in help_text and "Drums" in help_text
