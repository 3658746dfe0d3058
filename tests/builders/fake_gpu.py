"""A GPU without a GPU: tensors with device, shape and type but no memory, and a watch on what is asked of them.

torch's fake tensors refuse to mix devices, as a GPU does, and say `cuda`; gradients they cannot have without a driver.
Tensors on the meta device have gradients. What depends on values that there are not (`.item()`, sizes of boolean
selections) is answered with something made up, so that any program runs to its end; in a training step that is at the
same time what makes the host wait for the device.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

GPU, META = torch.device("cuda", 0), torch.device("meta")
MEMORY = 80 * 10**9
HERE = Path(__file__).resolve()
aten = torch.ops.aten


@dataclass
class Watch(TorchDispatchMode):
    """What crosses between host and device, and what waits; `cuda` and `meta` are the device.

    Attributes:
        waits: what made the host wait for the device, and where.
        to_device: bytes copied to the device.
        to_host: bytes copied from it.
    """

    waits: list[str] = field(default_factory=list)
    to_device: int = 0
    to_host: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is aten._local_scalar_dense.default and _made_up(args[0]):
            self._wait(args[0], "reads a value")
            return {torch.bool: False}.get(args[0].dtype, 0.0 if args[0].is_floating_point() else 0)
        if func is aten.nonzero.default and _made_up(args[0]):
            self._wait(args[0], "selects by value")
            return _positions(args[0])
        if func is aten.masked_select.default and _made_up(args[0]):
            self._wait(args[0], "selects by value")
            return args[0].new_empty(args[0].numel() // 2)
        if func is aten._unique2.default and _made_up(args[0]):
            self._wait(args[0], "looks for equal values")
            some = args[0].new_empty(max(1, args[0].numel() // 2))
            return some, torch.empty_like(args[0], dtype=torch.int64), torch.empty_like(some, dtype=torch.int64)
        if func in (aten.index.Tensor, aten.index_put.default, aten.index_put_.default):
            args = (args[0], self._chosen(args[0], args[1]), *args[2:])
        found = func(*args, **kwargs)
        if func in (aten._to_copy.default, aten.copy_.default, aten.to.device):
            source = args[1] if func is aten.copy_.default else args[0]
            blocks = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
            self._copied(source, found, blocks)
        return found

    def _copied(self, source: Tensor, found: Tensor, blocks: bool) -> None:
        if _there(source) == _there(found):
            return
        size = found.numel() * found.element_size()
        if _there(found):
            self.to_device += size
        else:
            self.to_host += size
        if blocks:
            self._note(f"copies {tuple(source.shape)} from {source.device.type} to {found.device.type} and waits")

    def _chosen(self, of: Tensor, indices: Sequence[Tensor | None]) -> list[Tensor | None]:
        """Return indices with booleans turned into as many positions as half of them."""
        found: list[Tensor | None] = []
        for index in indices:
            if index is not None and _there(of) and not _there(index) and index.dim():
                self._note("is indexed by a tensor on the host")
            if index is not None and index.dtype in (torch.bool, torch.uint8) and _made_up(index):
                self._wait(of, "selects by value")
                found += _positions(index).unbind(dim=1)
            else:
                found.append(index)
        return found

    def _wait(self, tensor: Tensor, what: str) -> None:
        if _there(tensor):
            self._note(what)

    def _note(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
        near = [frame for frame in frames if Path(frame.filename) != HERE][-1]
        self.waits.append(f"{Path(near.filename).name}:{near.lineno} ({near.line}) {what}")


def _there(tensor: Tensor) -> bool:
    return tensor.device.type in ("cuda", "meta")


def _made_up(tensor: Tensor) -> bool:
    """Whether a tensor has no values: a real one may be among them, such as the number of steps that Adam counts."""
    return isinstance(tensor, FakeTensor) or tensor.is_meta


def _positions(mask: Tensor) -> Tensor:
    return torch.empty(max(1, mask.numel() // 2), mask.dim(), dtype=torch.int64, device=mask.device)


def _applied(module: nn.Module, change: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """Do what `Module.to` does: torch swaps what a parameter holds, which fake ones do not let it."""
    for child in module.children():
        _applied(child, change)
    for name, param in module._parameters.items():
        if param is not None:
            with torch.no_grad():
                module._parameters[name] = nn.Parameter(change(param), param.requires_grad)
    for name, buffer in module._buffers.items():
        if buffer is not None:
            module._buffers[name] = change(buffer)
    return module


def _duplicate(self: FakeTensor, memo: dict[int, Any]) -> Tensor:
    """Do what `copy.deepcopy` does of a tensor: torch copies the storage, and there is none to read or to write."""
    if id(self) not in memo:
        found = self.detach().clone()
        memo[id(self)] = nn.Parameter(found, self.requires_grad) if isinstance(self, nn.Parameter) else found
    return memo[id(self)]


@contextmanager
def gpu() -> Iterator[Watch]:
    """Have every tensor made within be without memory, on whatever device it is made; gives the watch."""
    watch = Watch()
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(nn.Module, "_apply", _applied))
        stack.enter_context(mock.patch.object(FakeTensor, "__deepcopy__", _duplicate, create=True))
        stack.enter_context(mock.patch("torch.cuda.mem_get_info", lambda device=None: (MEMORY, MEMORY)))
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        yield stack.enter_context(watch)
