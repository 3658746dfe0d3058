"""What the memory layout of images and maps costs CNN methods, in turns: PYTHONPATH=tests python tests/perf/layout.py.

Channels last is what encoders are built with. Weights and images are random.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from perf.profile_step import randomised

from bench.encoders.frozen import skeleton
from bench.machine import allocator
from bench.registry import METHODS

LAYOUTS = {"contiguous": torch.contiguous_format, "channels last": torch.channels_last}
WARM_UP = 2


class Way:
    """A method built in one layout, and the seconds of its parts, round by round."""

    def __init__(self, options: argparse.Namespace, layout: torch.memory_format) -> None:
        torch.manual_seed(0)
        kind = METHODS.load(options.method)
        self.method = kind(kind.Config(encoder=options.encoder, input_size=options.size))
        self.encoder = randomised(skeleton(self.method.encoder()).to_empty(device="cpu")).to(memory_format=layout)
        self.encoder.memory_format = layout
        self.module = self.method.build(self.encoder.info).to(memory_format=layout)
        # as the extractor has them: channels last, for each encoder to bring into its own layout
        self.images = torch.randn(options.batch, options.size, options.size, 3).permute(0, 3, 1, 2)
        self.seconds: dict[str, list[float]] = {"features": [], "forward and backward": [], "map and score": []}

    def round(self) -> None:
        """Do each part once."""
        start = time.perf_counter()
        with torch.no_grad():
            features = self.method.features(self.encoder(self.images), self.encoder.info)
        self.seconds["features"].append(time.perf_counter() - start)
        if self.method.config.steps:
            start = time.perf_counter()
            self.module.train().zero_grad(set_to_none=True)
            self.method.loss(self.module, features, 0).backward()  # type: ignore[no-untyped-call]
            self.seconds["forward and backward"].append(time.perf_counter() - start)
        start = time.perf_counter()
        with torch.inference_mode():
            self.method.anomaly(self.module.eval(), features, self.encoder.info, 256)
        self.seconds["map and score"].append(time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="rd4ad", choices=["rd4ad", "patchcore"])
    parser.add_argument("--encoder", default="wide_resnet50_2.tv_in1k", help="a CNN, by timm name")
    parser.add_argument("--size", type=int, default=256, help="input side in pixels")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    allocator.keep_freed()
    ways = {name: Way(options, layout) for name, layout in LAYOUTS.items()}
    for _ in range(WARM_UP + options.rounds):
        for way in ways.values():
            way.round()
    print(f"{options.method}, {options.encoder} at {options.size} px, batch {options.batch}")
    for part, before in ways["contiguous"].seconds.items():
        pairs = list(zip(before, ways["channels last"].seconds[part], strict=True))[WARM_UP:]
        if pairs:
            gains = [one / two for one, two in pairs]
            medians = " -> ".join(f"{statistics.median(side):.3f}" for side in zip(*pairs, strict=True))
            print(f"  {part}: {medians} s, {statistics.median(gains):.2f} ({min(gains):.2f} to {max(gains):.2f}) times")


if __name__ == "__main__":
    main()
