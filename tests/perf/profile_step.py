"""Where the time of a training step and of an inference batch goes, in percent: python tests/perf/profile_step.py.

Weights and images are random, since time does not depend on their values; sizes are a method's own.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function

from bench.api import Method
from bench.encoders.frozen import FrozenEncoder, skeleton
from bench.machine import allocator
from bench.machine.precision import autocast, set_precision
from bench.registry import METHODS
from bench.run.complexity import training_cost

KINDS = {
    "matrix products": (
        "mm",
        "addmm",
        "bmm",
        "baddbmm",
        "convolution",
        "conv",
        "scaled_dot_product",
        "flash_attention",
    ),
    "norms": ("layer_norm", "batch_norm", "norm"),
    "GELU": ("gelu",),
    "softmax": ("softmax",),
    "copies": ("copy_", "cat", "stack", "contiguous", "clone", "index_select"),
    "optimizer": ("foreach", "fused_adam"),
}
"""Kind of work -> what the names of its kernels contain; the first that fits counts."""


def main() -> None:
    options = arguments()
    device = torch.device(options.device)
    if device.type == "cpu" and options.freed == "kept":
        allocator.keep_freed()
    set_precision(options.precision)
    torch.manual_seed(0)
    kind = METHODS.load(options.method)
    method = kind(kind.Config(**{**({"encoder": options.encoder} if options.encoder else {}), **options.set}))
    encoder = randomised(skeleton(method.encoder()).to_empty(device=device))
    module = method.build(encoder.info).to(device)
    batch = options.batch or method.config.batch_size
    side = encoder.info.input_size
    images = torch.randn(batch, 3, side, side, device=device)
    print(f"{method.name}, {encoder.info.name} at {side} px, batch {batch}, {options.precision}, {device}")
    cost = training_cost(method)
    print(f"counted: cached over uncached steps/s {cost.cached_over_uncached:.3f}")
    with torch.no_grad():
        features = method.features(encoder(images), encoder.info)
    optimizer = method.optimizer(module)
    for group in optimizer.param_groups:
        group["lr"] = 1e-6

    def look() -> Mapping[str, Tensor]:
        return method.features(encoder(images), encoder.info)

    def step() -> None:
        module.train()
        with record_function("phase: forward"), autocast(device, options.precision):
            loss = method.loss(module, features, 1000)
        optimizer.zero_grad(set_to_none=True)
        with record_function("phase: backward"):
            loss.backward()
        with record_function("phase: clip"):
            if method.clip_norm is not None:
                nn.utils.clip_grad_norm_(module.parameters(), method.clip_norm)
        with record_function("phase: optimizer"):
            optimizer.step()

    @torch.inference_mode()
    def predict() -> None:
        module.eval()
        with record_function("phase: encoder"):
            found = look()
        with record_function("phase: trained part and map"), autocast(device, options.precision):
            method.anomaly(module, found, encoder.info, 256)

    report("training step, features kept", step, options, method)
    report("inference batch", predict, options, method)


def report(title: str, work: Callable[[], None], options: argparse.Namespace, method: Method) -> None:
    """Run the work twice to warm up, then profile it, and print shares of the time by phase and by kind of kernel."""
    cuda = options.device != "cpu"
    for _ in range(2):
        work()
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=kinds) as found:
        for _ in range(options.repeats):
            work()
        if cuda:
            torch.cuda.synchronize()
    phases: Counter[str] = Counter()
    shares: Counter[str] = Counter()
    for event in found.key_averages():
        if event.key.startswith("phase: "):
            phases[event.key.removeprefix("phase: ")] += event.device_time_total if cuda else event.cpu_time_total
        else:
            shares[kind_of(event.key)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    print(f"\n{title}: {sum(shares.values()) / options.repeats / 1e3:.1f} ms of {'GPU' if cuda else 'CPU'} time")
    for name, parts in (("by phase", phases), ("by kind", shares)):
        total = sum(parts.values()) or 1.0
        print(f"  {name:9}" + ", ".join(f"{part} {100 * spent / total:.1f} %" for part, spent in parts.most_common(9)))


def kind_of(kernel: str) -> str:
    """Return the kind of work that a kernel's name stands for."""
    for kind, parts in KINDS.items():
        if any(part in kernel for part in parts):
            return kind
    return "the rest, element by element"


def randomised(encoder: FrozenEncoder) -> FrozenEncoder:
    """Fill an empty network with numbers that stay finite from its first layer to its last."""
    with torch.no_grad():
        for name, tensor in encoder.state_dict().items():
            if not tensor.is_floating_point():
                tensor.zero_()
            elif tensor.ndim > 1:
                tensor.normal_(std=0.02)
            else:
                tensor.fill_(float(name.endswith(("weight", "running_var"))))
    return encoder


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", default="dinomaly")
    parser.add_argument("--encoder", help="in place of the method's own")
    parser.add_argument("--batch", type=int, help="images at once (default: the method's)")
    parser.add_argument("--set", type=json.loads, default={}, metavar="JSON", help='settings, {"input_size": 32}')
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "tf32", "bf16"])
    parser.add_argument(
        "--freed", default="kept", choices=["kept", "returned"], help="what the CPU's allocator does with freed memory"
    )
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
