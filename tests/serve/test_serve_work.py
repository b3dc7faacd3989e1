"""`mmid.serve`: recordings received, queries in turn, the library changed, news sent."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import time

import pytest

from mmid.identify.timeline import Timeline
from mmid.serve.desk import Desk
from mmid.serve.errors import Cancelled, Refused
from mmid.serve.events import Events
from mmid.serve.recitals import Recitals
from mmid.serve.uploads import Limits, Upload, receive


def received(blocks, limits: Limits) -> bytes:
    async def sent():
        for block in blocks:
            if isinstance(block, float):
                await asyncio.sleep(block)
            else:
                yield block

    file = io.BytesIO()
    size = asyncio.run(receive(sent(), file, limits))
    assert size == len(file.getvalue())
    return file.getvalue()


# ---- what is sent


def test_what_is_sent_is_received_and_counted():
    limits = Limits()
    assert received([b"ab", b"", b"c"], limits) == b"abc" and limits.used == 3


@pytest.mark.parametrize(
    ("limits", "blocks", "status"),
    [
        (Limits(stall=0.05), [b"a", 5.0, b"b"], 408),
        (Limits(whole=0.1), [b"a", 0.06, b"b", 0.06, b"c", 0.06, b"d"], 408),
        (Limits(bytes=2), [b"ab", b"c"], 413),
        (Limits(held=2), [b"ab", b"c"], 503),
    ],
)
def test_what_is_too_slow_or_too_much_is_refused_and_forgotten(limits, blocks, status):
    with pytest.raises(Refused) as refused:
        received(blocks, limits)
    assert refused.value.status == status and limits.used == 0


# ---- queries in turn


async def stays() -> bool:
    return False


async def leaves() -> bool:
    return True


def test_so_many_are_worked_on_so_many_wait_and_one_more_is_refused():
    async def ask():
        go, desk = threading.Event(), Desk(2, most_waiting=3)

        async def query(number: int):
            with desk.place():
                return await desk.do(lambda: go.wait(60) and number, stays)

        asked = [asyncio.ensure_future(query(number)) for number in range(5)]
        while desk.running < 2 or desk.present < 5:
            await asyncio.sleep(0.01)
        counted = desk.running, desk.waiting
        with pytest.raises(Refused, match="3 requests wait") as refused:
            await query(5)
        go.set()
        answers = await asyncio.gather(*asked)
        return counted, refused.value.status, answers, desk.present

    assert asyncio.run(ask()) == ((2, 3), 503, [0, 1, 2, 3, 4], 0)


def test_nothing_is_begun_for_who_has_left():
    async def ask():
        done = []
        desk = Desk(1)
        with pytest.raises(Cancelled), desk.place():
            await desk.do(lambda: done.append(1), leaves)
        with desk.place():
            assert await desk.do(lambda: "next", stays) == "next"
        return done

    assert asyncio.run(ask()) == []


# ---- news


def test_a_slow_listener_gets_the_newest_state_only():
    async def listen():
        events, state = Events(), {"number": 0}
        listened = events.listen(lambda: state)
        first = await anext(listened)
        for number in range(1, 100):
            state = {"number": number}
            events.changed()
        second = await anext(listened)
        await listened.aclose()
        return first, second

    first, second = asyncio.run(listen())
    assert first == b'event: status\ndata: {"number": 0}\n\n'
    assert json.loads(second.split(b"data: ")[1]) == {"number": 99}


# ---- long recordings


def test_a_long_recording_that_nobody_waits_for_is_given_up(library, recording, monkeypatch):
    steps = []

    def follow(identifier, source, every, progress):
        for step in range(10_000):
            steps.append(step)
            time.sleep(0.02)
            progress("Following", step, 10_000)
        return Timeline("", 1.0)

    async def leave():
        monkeypatch.setattr("mmid.serve.recitals.follow", follow)
        recitals, done = Recitals(library), asyncio.Event()
        events = recitals.begin(Upload("a.wav", recording), 30.0, done.set)
        first = await anext(events)
        await events.aclose()
        await asyncio.wait_for(done.wait(), 60)
        return first

    assert asyncio.run(leave()).startswith(b"event: progress\n")
    assert 0 < len(steps) < 10_000


def test_only_so_many_long_recordings_wait(library):
    recitals = Recitals(library)
    leaving = [recitals.enter() for _ in range(4)]
    with pytest.raises(Refused, match="4 long recordings wait"):
        recitals.enter()
    leaving.pop()()
    recitals.enter()


# ---- the library changed


def test_one_change_at_a_time(empty, midi_folder):
    said = []

    def second():
        if not said:
            with pytest.raises(Refused, match="being changed already"):
                empty.remove(["x"])
            said.append(empty.work)

    empty.changed = second
    assert empty.build(str(midi_folder))["added"] == 6
    assert said[0].what == f"Adding {midi_folder}" and empty.work is None


def test_a_build_is_cancelled_and_goes_on_where_it_was(empty, midi_folder):
    def stop():
        if empty.work and empty.work.done == 3:
            assert empty.cancel()

    empty.changed = stop
    with pytest.raises(Cancelled):
        empty.build(str(midi_folder))
    assert empty.current() is None and "cancelled" in empty.last["error"]
    empty.changed = lambda: None
    assert empty.build(str(midi_folder))["items"] == 6
    assert not empty.cancel() and len(empty.current()) == 6


def test_a_build_without_a_folder_reads_those_that_are_followed_again(library, midi_folder):
    (midi_folder / "piece 0.mid").unlink()
    assert library.build(None)["gone"] == 1 and len(library.current()) == 5
    assert library.last["what"] == "Rebuilding"


def test_a_change_that_fails_says_why(library):
    with pytest.raises(Refused):
        library.build("nowhere")
    assert library.work is None
    with pytest.raises(Exception, match="no such folder"):
        library.build("/nowhere")
    assert "no such folder" in library.last["error"] and len(library.current()) == 6


def test_queries_go_on_with_the_index_they_began_with(library, recording):
    before = library.identifier()
    library.remove(["piece 1.mid"])
    assert len(before.index) == 6 and before.identify_file(recording).matches
    assert len(library.identifier().index) == 5
