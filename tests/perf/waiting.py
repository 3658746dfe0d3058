"""Print training steps a second for several ways in which threads wait, alone and beside busy processes.

    python tests/perf/waiting.py
    python tests/perf/waiting.py --spins 1000,3000,10000,50000 --busy 0,2,4 --rounds 20

One process a way stays ready all the time, and they take turns of a few seconds each, so that what others do on the
machine meets all of them alike; medians over the rounds are shown, and medians of the ratios to the runtime's own way
within a round. Processor seconds a step say what is lost where wall time says nothing, on a machine that others use.
The step is the demo's: a decoder for the small embedded encoder, two images of 128 pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from bench.machine import crowding, threads

ADAPT = "WAITING_ADAPTS"
WAYS = {
    "runtime": {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "200"},
    "bench": {ADAPT: "1"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
"""The runtimes' own defaults, which all others are compared with; what bench does; and two fixed ways besides."""
SET_BY_HAND = (threads.POLICY, threads.COUNT, threads.CHOSEN, threads.SPINS, threads.BLOCKTIME)


@dataclass
class Way:
    """A process that trains when it is told to."""

    name: str
    variables: Mapping[str, str]
    rates: list[float] = field(default_factory=list)
    """Steps a second, by round."""
    seconds: list[float] = field(default_factory=list)
    """Processor seconds a step, by round."""

    def __post_init__(self) -> None:
        plain = {name: value for name, value in os.environ.items() if name not in SET_BY_HAND}
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--train"],
            env=plain | self.variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def turn(self, seconds: float) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        print(seconds, file=self.process.stdin, flush=True)
        rate, spent = json.loads(self.process.stdout.readline())
        self.rates.append(rate)
        self.seconds.append(spent)

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


def main() -> None:
    options = arguments()
    if options.train:
        train()
        return
    named = WAYS | {f"{count} turns": {"GOMP_SPINCOUNT": count} for count in filter(None, options.spins.split(","))}
    with ExitStack() as stack:
        ways = [stack.enter_context(Way(name, variables)) for name, variables in named.items()]
        for way in ways:
            way.turn(0.1)  # loads torch and warms up
        for count in map(int, options.busy.split(",")):
            with busy(count):
                compare(ways, options.rounds, options.seconds)
            load = os.getloadavg()[0]
            print(
                f"\nbeside {count} busy processes; load {load:.1f} on {threads.cores()} cores, {options.rounds} rounds"
            )
            print(table(ways), flush=True)


def compare(ways: Sequence[Way], rounds: int, seconds: float) -> None:
    for way in ways:
        way.rates, way.seconds = [], []
    for number in range(rounds):
        # to and fro, so that none always follows the same other
        for way in ways if number % 2 else reversed(ways):
            way.turn(seconds)


def table(ways: Sequence[Way]) -> str:
    lines = [f"{'':14}{'steps/s':>9}{'least':>8}{'most':>8}{'times':>8}{'CPU ms a step':>16}"]
    for way in ways:
        times = statistics.median(own / other for own, other in zip(way.rates, ways[0].rates, strict=True))
        rate, spent = statistics.median(way.rates), 1000 * statistics.median(way.seconds)
        lines.append(f"{way.name:14}{rate:9.2f}{min(way.rates):8.2f}{max(way.rates):8.2f}{times:8.3f}{spent:16.1f}")
    return "\n".join(lines)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep as many cores busy as there are processes."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def train() -> None:
    """Take steps for as many seconds as each line says; print steps a second and processor seconds a step."""
    import torch

    from bench.config import configure, load_suite
    from bench.encoders.frozen import skeleton
    from bench.machine import allocator
    from bench.registry import METHODS

    allocator.keep_freed()
    if ADAPT in os.environ:
        crowding.watch()
    torch.manual_seed(0)
    suite, kind = load_suite("demo"), METHODS.load("dinomaly")
    method = kind(configure(kind, "demo", suite.set["dinomaly"], suite.encoder))
    encoder = skeleton(method.encoder()).to_empty(device="cpu")
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    side = encoder.info.input_size
    with torch.no_grad():
        features = method.features(encoder(torch.randn(method.config.batch_size, 3, side, side)), encoder.info)
    module = method.build(encoder.info).train()
    optimizer = method.optimizer(module)
    for line in sys.stdin:
        steps, spent, start = 0, time.process_time(), time.perf_counter()
        while (passed := time.perf_counter() - start) < float(line):
            loss = method.loss(module, features, steps)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            steps += 1
        print(json.dumps((steps / passed, (time.process_time() - spent) / steps)), flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spins", default="", help="also so many turns of GNU's runtime, separated by commas")
    parser.add_argument("--busy", default="0,2", help="numbers of busy processes, one after another")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=2.0, help="of a turn")
    parser.add_argument("--train", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
