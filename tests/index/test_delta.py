"""`delta`: a small change of a large index is written beside it, and found like the rest."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from contents import contents, counts, flip, snapshot

from mmid.errors import LibraryIndexError
from mmid.index import delta
from mmid.index.build import update_index
from mmid.index.fingerprint_table import delta_postings, library_postings
from mmid.index.fingerprints import STOP, spans_of
from mmid.index.folder import LibraryIndex
from mmid.index.maintenance import rebuild_caches, remove_pieces, verify_index
from mmid.index.manifest import DELTA_FORMAT, FORMAT, NOTES, PIECES, VECTORS, data_parts
from mmid.index.quantization import unpack
from mmid.music.midi import write_midi


@pytest.fixture(autouse=True)
def large(monkeypatch):
    """Treat small indexes as large ones."""
    monkeypatch.setattr(delta, "WHOLE_BELOW", 1)
    monkeypatch.setattr(delta, "LARGEST", 0.9)


def parts(folder: Path) -> list[Path]:
    return [folder / data for data, _ in data_parts(LibraryIndex(folder, None).manifest)]


def agreements(index: LibraryIndex, name: str) -> list[tuple]:
    """Return the positions that the notes of a piece are found at, each with its piece's name."""
    names = [entry.name for entry in index.entries]
    found = index.search_triples(index.notes(names.index(name)), 3)
    rows = [(names[a.piece], a.votes, a.share, a.start, a.tempo_ratio) for a in found]
    return sorted(rows, key=lambda row: (-row[1], row[0]))


def melodies(index: LibraryIndex) -> list[tuple]:
    """Return the name of every piece, and its melody."""
    packed = index.melodies()
    codes = [packed.codes_of(np.array([piece]))[0].tolist() for piece in range(len(packed))]
    assert all(codes)
    return sorted(zip([entry.name for entry in index.entries], codes, strict=True))


def check_same(folder: Path, library: Path, model) -> None:
    """Compare an index with one built from nothing: what it holds, and what searches find."""
    fresh = folder.with_name("fresh")
    update_index(fresh, [library], model)
    assert contents(folder, model) == contents(fresh, model)
    index, other = LibraryIndex(folder, model), LibraryIndex(fresh, model)
    assert index.snippets == other.snippets and not verify_index(folder).faults
    assert melodies(index) == melodies(other)
    for piece, entry in enumerate(index.entries):
        vectors = unpack(index.item(piece).vectors)
        for how in ("exact", "hnsw"):
            found, similarity = index.search(vectors, 3, how)
            assert set(found.ravel()) <= set(index.held_rows)
            assert (similarity[:, 0] > 0.97).mean() > 0.95
        best = other.search(vectors, 3, "exact")[1]
        np.testing.assert_allclose(index.search(vectors, 3, "exact")[1], best, atol=1e-5)
        assert agreements(index, entry.name) == agreements(other, entry.name)


def test_added_files_lie_beside_the_old(built, library, tiny_model, draw_notes):
    [base] = parts(built)
    before = snapshot(base)
    write_midi(draw_notes(10), library / "new.mid")
    assert counts(update_index(built, [library], tiny_model)) == (1, 0, 0, 5, 0)
    assert parts(built)[0] == base and len(parts(built)) == 2 and snapshot(base) == before
    assert json.loads((built / "manifest.json").read_text())["format"] == DELTA_FORMAT
    check_same(built, library, tiny_model)


def test_removed_files_stay_and_are_passed_over(built, library, tiny_model):
    [base] = parts(built)
    (library / "1.mid").unlink()
    remove_pieces(built, ["1.mid"])
    index = LibraryIndex(built, tiny_model)
    assert parts(built)[0] == base and {path.name for path in parts(built)[1].iterdir()} == {
        *("pieces.sqlite", "cells.npy", "bounds.npy")
    }
    assert index.snippets == len(index.held_rows) < len(index.vectors) == index.manifest["rows"]
    check_same(built, library, tiny_model)


def test_many_small_changes_are_one_delta(built, library, tiny_model, draw_notes):
    [base] = parts(built)
    for step in range(4):
        write_midi(draw_notes(30 + step), library / f"more {step}.mid")
        write_midi(draw_notes(40 + step), library / "3.mid")
        (library / "more 1.mid").unlink(missing_ok=True)
        update_index(built, [library], tiny_model)
        assert parts(built)[0] == base or step > 1, "the first ones at least are small"
        assert len(list(built.glob("data-*"))) == len(parts(built))
        check_same(built, library, tiny_model)


def test_a_file_that_was_renamed_is_only_named_anew(built, library, tiny_model, embedded):
    (library / "0.mid").rename(library / "z.mid")
    assert counts(update_index(built, [library], tiny_model)) == (0, 0, 1, 4, 0)
    assert len(parts(built)) == 2 and embedded == []
    check_same(built, library, tiny_model)


def test_a_large_change_and_a_rebuild_make_one_of_two(built, library, tiny_model, draw_notes):
    write_midi(draw_notes(10), library / "new.mid")
    update_index(built, [library], tiny_model)
    rebuild_caches(built)
    assert len(parts(built)) == 1 and len(list(built.glob("data-*"))) == 1
    (library / "0.mid").unlink()
    update_index(built, [library], tiny_model)
    assert len(parts(built)) == 2
    for seed in range(6):
        write_midi(draw_notes(50 + seed), library / f"many {seed}.mid")
    update_index(built, [library], tiny_model)
    assert len(parts(built)) == 1
    assert json.loads((built / "manifest.json").read_text())["format"] == FORMAT
    check_same(built, library, tiny_model)


@pytest.mark.parametrize("name", [VECTORS, NOTES, PIECES])
def test_a_damaged_delta_is_found(built, library, tiny_model, draw_notes, name):
    write_midi(draw_notes(10), library / "new.mid")
    update_index(built, [library], tiny_model)
    path = parts(built)[1] / name
    flip(path, path.stat().st_size - 5)
    with pytest.raises(LibraryIndexError, match=name):
        LibraryIndex(built, tiny_model)


def test_a_delta_that_is_gone_is_one_line(built, library, tiny_model):
    remove_pieces(built, ["1.mid"])
    for path in parts(built)[1].iterdir():
        path.unlink()
    with pytest.raises(LibraryIndexError, match="No such file"):
        LibraryIndex(built, tiny_model)


@pytest.mark.parametrize(
    "harm",
    [
        lambda told: told.pop("delta"),
        lambda told: told["delta"].pop("snippets"),
        lambda told: told["delta"].update(data="../elsewhere"),
        lambda told: told["delta"]["files"].pop("cells.npy"),
        lambda told: told.update(delta=[]),
    ],
)
def test_a_manifest_with_a_strange_delta_is_refused(built, harm):
    remove_pieces(built, ["1.mid"])
    path = built / "manifest.json"
    told = json.loads(path.read_text())
    harm(told)
    path.write_text(json.dumps(told))
    with pytest.raises(LibraryIndexError, match="damaged"):
        LibraryIndex(built, None)


def test_counts_that_do_not_agree_are_refused(built, tiny_model):
    remove_pieces(built, ["1.mid"])
    path = built / "manifest.json"
    told = json.loads(path.read_text())
    told["delta"]["snippets"] -= 1
    path.write_text(json.dumps(told))
    with pytest.raises(LibraryIndexError, match="counts do not agree"):
        LibraryIndex(built, tiny_model).search(np.zeros((1, 16), np.float32), 1, "hnsw")


@pytest.mark.parametrize("step", ["write_pieces", "delta_postings", "nearest_centroids"])
def test_a_stopped_change_leaves_the_old_index(
    built, library, tiny_model, draw_notes, monkeypatch, step
):
    before = snapshot(built)

    def stop(*_args, **_more):
        raise KeyboardInterrupt

    write_midi(draw_notes(10), library / "new.mid")
    with monkeypatch.context() as patch:
        patch.setattr(delta, step, stop)
        with pytest.raises(KeyboardInterrupt):
            update_index(built, [library], tiny_model)
    left = {name: data for name, data in snapshot(built).items() if "pending" not in name}
    assert left == before
    update_index(built, [library], tiny_model)
    check_same(built, library, tiny_model)


def test_damaged_lists_are_mended_by_writing_all(built, library, tiny_model):
    flip(parts(built)[0] / "cells.npy", 140)
    (library / "0.mid").unlink()
    update_index(built, [library], tiny_model)
    assert len(parts(built)) == 1
    check_same(built, library, tiny_model)


def test_what_a_library_has_on_its_stop_list_stays_off(draw_notes):
    one = draw_notes(0)
    notes = np.concatenate([one] * 400)  # each of its fingerprints is too common
    firsts = [len(one) * i for i in range(400)]
    base = np.concatenate(list(library_postings(notes, firsts)))
    assert (spans_of(base) == STOP).any()
    more = np.concatenate([notes, one, draw_notes(1)])
    none = np.zeros(0, np.uint64)
    added = [len(notes), len(notes) + len(one)]
    got = delta_postings(base, none, more, added, len(notes))
    alone = delta_postings(none, none, more, added[1:], added[1])
    postings = np.concatenate(list(got))
    assert len(postings) > 100
    stopped = set((base[spans_of(base) == STOP] >> np.uint64(38)).tolist())
    assert not stopped & set((postings >> np.uint64(38)).tolist())
    assert set(postings.tolist()) <= set(np.concatenate([*alone, postings]).tolist())
