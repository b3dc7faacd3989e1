"""How a command ends: when it is done, when the user stops it, when nobody reads on.

Conventions: exit statuses are 0 done, 1 something failed, 2 wrong usage, 130 stopped by Ctrl-C and
143 terminated.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from threading import Event, Thread, Timer
from types import FrameType
from typing import Any, NoReturn

import typer

from mmid.cli.help import PANELS, Commands
from mmid.errors import MmidError
from mmid.system.console import note
from mmid.system.files import drop_unfinished
from mmid.system.processes import end_workers

STOPPED, TERMINATED = 130, 143

GO_ON = ("build-index", "render", "train")
"""Commands that, run again, go on from where they were stopped."""


class Terminated(KeyboardInterrupt):
    """SIGTERM came: everything ends as after Ctrl-C, but for the exit status."""


class LeftAtWork(SystemExit):
    """The end of a stopped command, without waiting for threads or what PyTorch tidies up."""


class AllCommands(Commands):
    """All commands in their panels, none of which ends with a traceback for being stopped."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for panel, names in PANELS.items():
            for name in names:
                command: Any = self.commands.get(name)
                if command:  # else it is one of those that were not imported
                    command.rich_help_panel = panel

    def list_commands(self, ctx: Any) -> list[str]:
        """List them in the order in which they are needed."""
        order = [name for names in PANELS.values() for name in names]
        return sorted(self.commands, key=[*order, *self.commands].index)

    def make_context(self, *args: Any, **named: Any) -> Any:
        """Read the arguments."""
        try:
            return super().make_context(*args, **named)
        except KeyboardInterrupt as stop:
            raise typer.Exit(_say_stopped(stop)) from None

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        status = self._attempt(ctx)
        if status:
            raise LeftAtWork(status)  # here, where what was stopped has let go of its workers

    def _attempt(self, ctx: Any) -> int:
        try:
            try:
                super().invoke(ctx)
            finally:
                sys.stdout.flush()
        except KeyboardInterrupt as stop:
            return _say_stopped(stop, ctx.invoked_subcommand)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except Exception:
            if not _stops:
                raise
            return _say_stopped(_stops[0], ctx.invoked_subcommand)  # which Python made another of
        return 0


def status_of(stop: KeyboardInterrupt) -> int:
    """Return the exit status of a command that was stopped."""
    return TERMINATED if isinstance(stop, Terminated) else STOPPED


def _say_stopped(stop: KeyboardInterrupt, command: str | None = None) -> int:
    """Say in a line that a command was stopped, and return its exit status."""
    again = "; run it again to go on" if command in GO_ON else ""
    note(f"mmid: {'terminated' if isinstance(stop, Terminated) else 'stopped'}{again}")
    return status_of(stop)


GRACE = 1.5
"""Seconds in which a command must notice a stop; else, deep in a library, it is ended."""

AGAIN = 0.05
"""Seconds until a stop that Python dropped is raised again."""

MOMENT = 0.1
"""Seconds in which a thread that has nothing left to do is gone."""

SHOW_CURSOR = "\r\x1b[2K\x1b[?25h"
"""Clears the line of what is under way, and shows a terminal's cursor again."""

_noticed = Event()
_stops: list[KeyboardInterrupt] = []


def _stop(number: int, frame: FrameType | None) -> None:
    _noticed.set()
    _stops.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
    raise _stops[-1]


def _stop_again(dropped: sys.UnraisableHookArgs) -> None:
    """Stop once more, soon: Python drops what is raised while it cleans up."""
    if not isinstance(dropped.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)
        return
    number = signal.SIGTERM if isinstance(dropped.exc_value, Terminated) else signal.SIGINT
    Timer(AGAIN, os.kill, (os.getpid(), number)).start()


def catch_stops() -> None:
    """Notice Ctrl-C and SIGTERM in time from now on, whatever the main thread is at."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, _stop)
    sys.unraisablehook = _stop_again
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    Thread(target=_end_in_time, args=(reading,), daemon=True).start()


def _end_in_time(signals: int) -> None:
    stops = {signal.SIGINT: ("stopped", STOPPED), signal.SIGTERM: ("terminated", TERMINATED)}
    while (number := os.read(signals, 1)[0]) not in stops:
        pass
    if _noticed.wait(GRACE):
        return
    word, status = stops[signal.Signals(number)]
    drop_unfinished()
    end_workers()
    errors = sys.stderr.fileno()
    shown = SHOW_CURSOR if os.isatty(errors) else ""  # what waits may have hidden it
    os.write(errors, f"{shown}mmid: {word}\n".encode())
    os._exit(status)


def _describe(error: OSError) -> str:
    """Say in a line what the system refused, such as more room on a disk that is full."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def run(app: typer.Typer) -> None:
    """Run the command line; what a user can mend is one line on stderr and exit status 1."""
    try:
        app(prog_name="mmid")
    except MmidError as error:
        note(f"mmid: {error}")
        raise SystemExit(1) from None
    except OSError as error:
        note(f"mmid: {_describe(error)}")
        raise SystemExit(1) from None
    except (MemoryError, RuntimeError) as error:
        if type(error).__name__ not in ("MemoryError", "OutOfMemoryError"):  # torch's own
            raise
        note("mmid: out of memory; try fewer --jobs, or --device cpu")
        raise SystemExit(1) from None
    except LeftAtWork as end:
        _leave(end)
    except SystemExit as end:
        if "torch" in sys.modules and not _others_work():
            atexit._run_exitfuncs()
            _leave(end)
        raise


def _leave(end: SystemExit) -> NoReturn:
    """End without taking PyTorch down, which takes nearly half as long as loading it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(int(end.code or 0))


def _others_work() -> bool:
    """Return whether threads are at work that are to be waited for."""
    others = [t for t in threading.enumerate() if t is not threading.main_thread()]
    waited_for = [thread for thread in others if not thread.daemon]
    for thread in waited_for:
        thread.join(MOMENT)
    return any(thread.is_alive() for thread in waited_for)
