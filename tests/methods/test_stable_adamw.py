from __future__ import annotations

import io
import math

import pytest
import torch

from bench.methods._stable_adamw import StableAdamW

Tensors = list[list[float]]


class Reference:
    """The published update, one number at a time."""

    def __init__(self, tensors: Tensors, eps: float, weight_decay: float, amsgrad: bool = True) -> None:
        self.w = [list(tensor) for tensor in tensors]
        self.m = [[0.0] * len(tensor) for tensor in tensors]
        self.v = [[0.0] * len(tensor) for tensor in tensors]
        self.top = [[0.0] * len(tensor) for tensor in tensors]
        self.eps, self.decay, self.amsgrad, self.n = eps, weight_decay, amsgrad, 0
        self.clipped = 0

    def step(self, grads: Tensors, lr: float) -> None:
        self.n += 1
        first, second = 1 - 0.9**self.n, 1 - 0.999**self.n
        for w, m, v, top, grad in zip(self.w, self.m, self.v, self.top, grads, strict=True):
            denominators = []
            for i, g in enumerate(grad):
                w[i] *= 1 - lr * self.decay
                m[i] = 0.9 * m[i] + 0.1 * g
                v[i] = 0.999 * v[i] + (1 - 0.999) * g * g
                top[i] = max(top[i], v[i]) if self.amsgrad else v[i]
                denominators.append(math.sqrt(top[i]) / math.sqrt(second) + self.eps)
            rms = math.sqrt(sum((g / d) ** 2 for g, d in zip(grad, denominators, strict=True)) / len(grad))
            self.clipped += rms > 1
            for i, d in enumerate(denominators):
                w[i] -= lr / first / max(1.0, rms) * m[i] / d


def bursts(sizes: tuple[int, ...], steps: int) -> list[Tensors]:
    """Gradients with sudden large ones, so that clipping and the maximum both matter, and some exact zeros."""
    generator = torch.Generator().manual_seed(1)
    out = []
    for step in range(steps):
        scale = 100.0 if step % 7 == 3 else 0.01
        grads = [(torch.randn(size, generator=generator, dtype=torch.float64) * scale).tolist() for size in sizes]
        grads[0][0] = 0.0
        out.append(grads)
    return out


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
@pytest.mark.parametrize(("eps", "amsgrad"), [(1e-10, True), (1e-2, True), (1e-8, False)])
def test_fifty_steps_against_the_scalar_reference(
    dtype: torch.dtype, tolerance: float, eps: float, amsgrad: bool
) -> None:
    sizes = (5, 1, 12)
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    params = [torch.nn.Parameter(value.to(dtype)) for value in start]
    optimizer = StableAdamW(params, lr=1.0, eps=eps, weight_decay=0.3, amsgrad=amsgrad)
    reference = Reference([value.tolist() for value in start], eps, 0.3, amsgrad)
    for step, grads in enumerate(bursts(sizes, 50)):
        lr = 1e-2 * (step % 5)
        for group in optimizer.param_groups:
            group["lr"] = lr
        for param, grad in zip(params, grads, strict=True):
            param.grad = torch.tensor(grad, dtype=dtype)
        optimizer.step()
        reference.step(grads, lr)
        for param, wanted in zip(params, reference.w, strict=True):
            expected = torch.tensor(wanted, dtype=torch.float64)
            torch.testing.assert_close(param.detach().double(), expected, atol=tolerance, rtol=tolerance)
    assert 0 < reference.clipped < 150, "the gradients must make some steps clip and some not"


def test_zero_learning_rate_moves_moments_only() -> None:
    param = torch.nn.Parameter(torch.ones(3))
    optimizer = StableAdamW([param], lr=0.0, weight_decay=0.5)
    param.grad = torch.tensor([1.0, -2.0, 3.0])
    optimizer.step()
    assert torch.equal(param.detach(), torch.ones(3))
    torch.testing.assert_close(optimizer.state[param]["exp_avg"], torch.tensor([0.1, -0.2, 0.3]))


def test_parameter_without_gradient_keeps_its_own_count() -> None:
    left, right = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = StableAdamW([left, right], lr=0.1)
    alone = torch.nn.Parameter(torch.ones(2))
    other = StableAdamW([alone], lr=0.1)
    for step in range(4):
        left.grad = torch.tensor([1.0, 2.0])
        right.grad = torch.tensor([0.5, -1.0]) * (step + 1) if step % 2 else None
        optimizer.step()
        if step % 2:
            alone.grad = torch.tensor([0.5, -1.0]) * (step + 1)
            other.step()
    assert torch.equal(right.detach(), alone.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_state_survives_a_safe_file(dtype: torch.dtype) -> None:
    gradients = bursts((4, 3), 20)
    straight, resumed = ([torch.nn.Parameter(torch.ones(size, dtype=dtype)) for size in (4, 3)] for _ in range(2))

    def run(params: list[torch.nn.Parameter], optimizer: StableAdamW, steps: list[Tensors]) -> None:
        for grads in steps:
            for param, grad in zip(params, grads, strict=True):
                param.grad = torch.tensor(grad, dtype=dtype)
            optimizer.step()

    run(straight, StableAdamW(straight), gradients)
    first = StableAdamW(resumed)
    run(resumed, first, gradients[:8])
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second = StableAdamW(resumed, lr=123.0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    run(resumed, second, gradients[8:])
    for a, b in zip(straight, resumed, strict=True):
        assert torch.equal(a.detach(), b.detach())


def test_closure_gives_the_loss() -> None:
    param = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = StableAdamW([param], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 4.0
    assert param.item() < 2.0
