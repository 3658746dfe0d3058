"""torch.compile as an option: the same losses, and a training that goes on where it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from bench.machine import compiling
from bench.machine.compiling import try_compiled


class Small(nn.Module):
    """Dropout draws, BatchNorm keeps averages: what a trial must leave alone."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


class Holder(nn.Module):
    """Like the dual student's module: holds others, is never called itself."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = Small(), Small()


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    import torch._inductor.config

    yield
    torch._inductor.config.fallback_random = False
    torch.compiler.reset()


def trained(compile: bool, say: Callable[[str], None]) -> tuple[list[float], dict[str, torch.Tensor], bool]:
    torch.manual_seed(0)
    module = Holder().train()
    x = torch.randn(8, 4)

    def loss() -> torch.Tensor:
        return (module.left(x) - module.right(x)).square().mean()

    done = try_compiled(module, loss, say) if compile else False
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        value = loss()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return losses, module.state_dict(), done


@pytest.mark.parametrize("works", [True, False])
def test_losses_are_those_of_a_training_without(works: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = 0

    def backend(graph: torch.fx.GraphModule, inputs: object) -> Callable[..., object]:
        nonlocal graphs
        graphs += 1
        if not works:
            raise RuntimeError("no compiler here\nand a long story")
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", backend)
    said: list[str] = []
    plain, state, _ = trained(False, said.append)
    compiled, other, done = trained(True, said.append)
    assert graphs, "the backend was asked"
    assert done is works
    assert compiled == pytest.approx(plain, rel=1e-6)
    assert state.keys() == other.keys()
    for name, tensor in state.items():
        torch.testing.assert_close(tensor, other[name], msg=name)
    if works:
        assert not said
    else:
        assert len(said) == 1 and "going on without" in said[0] and "no compiler here" in said[0]
        assert "long story" not in said[0]
