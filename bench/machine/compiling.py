"""torch.compile of the trainable part: tried on one batch, and done without where it fails."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.errors import BenchError

BACKEND = "inductor"


def try_compiled(module: nn.Module, loss: Callable[[], Tensor], say: Callable[[str], None]) -> bool:
    """Compile a module in place, run one forward and backward pass, and take the compilation back if that fails.

    Nothing but the speed and the rounding of what follows changes: random draws are eager's own, and the trial moves
    neither random generators nor buffers (BatchNorm's averages) nor gradients. Parameter names stay as they are.

    Args:
        module: the trainable part, on its device, in training mode.
        loss: evaluates the module as the training will.
        say: is told in one line why it is not compiled.

    Returns:
        Whether the module is compiled.

    Raises:
        BenchError: what the loss itself refuses.
    """
    buffers = [buffer.clone() for buffer in module.buffers()]
    devices = {param.device for param in module.parameters() if param.device.type == "cuda"}
    with torch.random.fork_rng([device.index or 0 for device in devices]):
        parts = compile_parts(module)
        try:
            loss().backward()  # type: ignore[no-untyped-call]
            failed = None
        except BenchError:
            raise  # the method's own refusal, which it would raise without us too
        except Exception as error:  # what compilers raise is theirs to choose
            failed = " ".join(f"{type(error).__name__}: {error}".splitlines()[:2])
    if failed is not None:
        for part in parts:
            part._compiled_call_impl = None
        say(f"torch.compile failed, going on without it ({failed})")
    with torch.no_grad():
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)
    module.zero_grad(set_to_none=True)
    return failed is None


def compile_parts(module: nn.Module) -> list[nn.Module]:
    """Have what a method calls of a module compiled when it is called next, and return it."""
    from torch._inductor import config

    # for good: a later shape is compiled by itself, and must not draw otherwise
    config.fallback_random = True
    parts = _called(module)
    for part in parts:
        part.compile(backend=BACKEND)
    return parts


def _called(module: nn.Module) -> list[nn.Module]:
    """Return what a method calls: the module itself, or, where it only holds others together, those."""
    if type(module).forward is not nn.Module.forward:
        return [module]
    return [part for child in module.children() for part in _called(child)]
