"""Several single-thread processes train one model: gradients are averaged, the costly updates shared out.

On a busy machine this wastes far less than several threads in one process, which wait for each other all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn


def launch(work: Callable[[int, int], None], processes: int, meeting: Path) -> None:
    """Runs work(rank, processes) in each process; `meeting` is a file that must not exist."""
    if processes == 1:
        work(0, 1)
        return
    meeting.unlink(missing_ok=True)
    spawn: Any = mp.spawn  # type: ignore[attr-defined]
    spawn(joined, args=(work, processes, meeting.absolute().as_uri()), nprocs=processes)


def joined(rank: int, work: Callable[[int, int], None], processes: int, meeting: str) -> None:
    """The life of one spawned process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
    work(rank, processes)
    dist.destroy_process_group()


def average_gradients(parameters: Sequence[nn.Parameter], processes: int) -> None:
    """Every process ends with the mean of all gradients."""
    if processes == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([g.flatten() for g in gradients])
    dist.all_reduce(flat)
    scatter(flat / processes, gradients)


def share_parameters(groups: Sequence[Sequence[nn.Parameter]], processes: int) -> None:
    """Group r, updated by process r alone, is sent to all others."""
    if processes == 1:
        return
    for owner, group in enumerate(groups):
        flat = torch.cat([p.detach().flatten() for p in group])
        dist.broadcast(flat, owner)
        scatter(flat, [p.data for p in group])


def agreed(value: float, processes: int) -> float:
    """Process 0's value, in all processes."""
    if processes == 1:
        return value
    box = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(box, 0)
    return float(box.item())


def scatter(flat: Tensor, targets: Sequence[Tensor]) -> None:
    """Copies the pieces of `flat` back into tensors of the shapes it was made of."""
    at = 0
    for target in targets:
        target.copy_(flat[at : at + target.numel()].view_as(target))
        at += target.numel()
