"""Entry point of the `bench` command and of `python -m bench`."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and sys.path and Path(sys.path[0] or ".").resolve() == Path.cwd():
    # `python -m` puts the working directory first, where a checkout's datasets/ would shadow Hugging Face's package
    del sys.path[0]


def main() -> None:
    """Run the command line and exit with its code."""
    from bench.cli.main import run

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
