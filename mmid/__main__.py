"""The command ``mmid``, or ``python -m mmid``: starts quickly, and is stopped quietly."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line, which takes a moment to load."""
    try:
        from mmid.cli import main as run

        run()
    except KeyboardInterrupt:
        print("mmid: stopped", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
