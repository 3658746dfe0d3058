"""What a GPU shows that a CPU cannot: make gpu

Piece by piece, each leaving its record in results/gpu before the next begins; a piece whose record is there is left
out, so a run that was cut off, or given fewer minutes, goes on where it ended. It needs no files beside the checkout:
images are generated, and so are encoders' weights where none are at hand.

    tests      what `pytest -m cuda` holds
    demo-...   the demo suite in each arithmetic, against the recorded seeds' spread (bench check)
    dinomaly   bench speed at the paper's size, compiled: other arithmetics, eager, features computed again, the plain
               way in turns; then one whole cell of MVTec AD's size, 10,000 steps, from decoding to the record
    vitad      the same, eager and without the whole cell

What is timed runs alone; tests and demo run side by side. `make gpu BIN=DIR READY=` takes the Python of DIR as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
BENCH = (sys.executable, "-P", "-m", "bench")
"""-P keeps the checkout from standing in for the package that is installed."""
MINUTES = 9.0


@dataclass(frozen=True)
class Piece:
    """One command whose outcome is kept.

    Attributes:
        alone: whether it is timed, and has the machine to itself.
    """

    name: str
    command: tuple[str, ...]
    alone: bool


def pieces(out: Path, device: str, toy: bool) -> Iterator[Piece]:
    """Yield the pieces in their order.

    Args:
        out: folder of all records.
        device: cuda, or cpu to try this script out.
        toy: seconds in place of minutes; the numbers mean nothing then.
    """
    tested = [str(path) for path in sorted((REPO / "tests").rglob("test_*.py")) if "mark.cuda" in path.read_text()]
    marked = (sys.executable, "-P", "-m", "pytest", "-m", "cuda", "-q", "-n", "4", "--durations=10", *tested)
    yield Piece("tests", marked, alone=False)
    short = ("--set", "dinomaly.steps=20") if toy else ()
    for precision in ("fp32", "tf32", "bf16"):
        run = ("--device", device, "--precision", precision, *short)
        check = (
            *BENCH,
            "check",
            "--suite",
            "demo",
            "--any-precision",
            "--run",
            "--results",
            str(out / f"demo-{precision}"),
        )
        yield Piece(f"demo-{precision}", (*check, "--", *run), alone=False)
    speed = (*BENCH, "speed", "--device", device, "--precision", "bf16", "--results", str(out / "speed"))
    size = ("--workload", "small", "--seconds", "1") if toy else ("--workload", "mvtec", "--seconds", "8")
    for name, more, modes in (
        ("dinomaly", ("--compile", "--whole"), "bf16,tf32,fp32,bf16+again"),
        ("vitad", (), "tf32,fp32,bf16+again"),
    ):
        yield Piece(name, (*speed, *size, "--methods", name, *more, "--variants", modes), alone=True)


def outcome(out: Path, piece: Piece) -> Path:
    """Return where a piece's outcome is kept."""
    return out / f"{piece.name}.json"


def run(these: Sequence[Piece], out: Path, ends: float) -> bool:
    """Run some pieces side by side until all have ended or the time is over; return whether all went well.

    Args:
        these: at least one.
        out: folder of all records; what a piece prints goes there.
        ends: as time.monotonic counts.
    """
    started, running = time.monotonic(), {}
    try:
        for piece in these:
            with (out / f"{piece.name}.log").open("wb") as log:
                print(f"{piece.name}: {' '.join(piece.command)}", flush=True)
                # a group of its own, so that the processes that it starts end with it
                running[piece] = subprocess.Popen(
                    piece.command, cwd=REPO, stdout=log, stderr=subprocess.STDOUT, process_group=0
                )
        codes = {}
        while len(codes) < len(running) and time.monotonic() < ends:
            time.sleep(0.1)
            for piece, process in running.items():
                code = process.poll()
                if code is not None and piece not in codes:
                    codes[piece] = code
                    ended(out, piece, code, time.monotonic() - started)
    finally:
        for piece, process in running.items():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                print(f"{piece.name}: stopped, see {out / piece.name}.log", flush=True)
    return [*codes.values()] == [0] * len(these)


def ended(out: Path, piece: Piece, code: int, seconds: float) -> None:
    """Say how a piece went, and keep its outcome where it went well."""
    print(f"{piece.name}: exit code {code} after {seconds:.0f} s, see {out / piece.name}.log", flush=True)
    if code == 0:
        found = {"piece": piece.name, "command": piece.command, "seconds": round(seconds, 1)}
        outcome(out, piece).write_text(json.dumps(found, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="PIECE,..", help="these alone")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="after which what runs is stopped")
    parser.add_argument("--out", type=Path, default=REPO / "results" / "gpu", help="folder of the records")
    parser.add_argument("--device", default="cuda", help="cpu to try this script out")
    parser.add_argument("--toy", action="store_true", help="seconds in place of minutes, to try this script out")
    given = parser.parse_args()
    out, ends = given.out.resolve(), time.monotonic() + 60 * given.minutes
    out.mkdir(parents=True, exist_ok=True)
    every = list(pieces(out, given.device, given.toy))
    wanted = given.only.split(",") if given.only else [piece.name for piece in every]
    for name in wanted:
        if name not in [piece.name for piece in every]:
            parser.error(f"no piece '{name}'. Expected some of {', '.join(piece.name for piece in every)}")
    open_ = [piece for piece in every if piece.name in wanted and not outcome(out, piece).is_file()]
    together = [piece for piece in open_ if not piece.alone]
    good = True
    for these in ([together] if together else []) + [[piece] for piece in open_ if piece.alone]:
        if time.monotonic() > ends:
            print(f"out of time before {these[0].name}; the same command goes on from here", flush=True)
            return 1
        good = run(these, out, ends) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
