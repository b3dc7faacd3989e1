"""The command ``mmid``, or ``python -m mmid``: starts quickly, and is stopped quietly."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line, which takes a moment to load.

    PyTorch's threads sleep between the small things that they compute together: kept spinning, as
    OpenMP does by default, they take the cores from whatever else runs.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from mmid.system.start import load_no_compiler, loading_modules

        with loading_modules():
            from mmid.cli.shell import catch_stops

            catch_stops()
            if sys.argv[1:2] == ["query"]:  # which needs nothing of the other commands
                load_no_compiler()
                from mmid.cli.root import main as run
            else:
                from mmid.cli.app import main as run

        run()
    except KeyboardInterrupt as stop:
        terminated = type(stop) is not KeyboardInterrupt  # maybe nothing of mmid is loaded yet
        print("mmid: terminated" if terminated else "mmid: stopped", file=sys.stderr)
        raise SystemExit(143 if terminated else 130) from None


if __name__ == "__main__":
    main()
