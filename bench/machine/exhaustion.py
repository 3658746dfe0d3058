"""Out-of-memory handling: the same work in smaller pieces, said and recorded.

Images on their way through a network do not know of each other, so features and predictions are made with half as many
at once wherever memory gives out; scores then differ by rounding at most. A training step does know: its batch is what
the loss is taken over, and methods that mine hard points in it or normalise over it have no equal in sums over smaller
ones. So the training begins anew with half the batch, and its record says that it is another than configured.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import torch

from bench.errors import ExhaustedError

Item = TypeVar("Item")
Result = TypeVar("Result")

_SIGNS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def is_exhausted(error: BaseException) -> bool:
    """Return whether an error says that memory gave out: torch's, CUDA's libraries', or the CPU allocator's."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


class Reductions:
    """Batch sizes of one cell, which shrink where memory gives out and stay so for the rest of the cell.

    Args:
        say: tells the user.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.found: dict[str, int] = {}
        """What was reduced -> images at once that went well, as the record has it."""

    def batches(
        self, what: str, items: Sequence[Item], size: int, work: Callable[[Sequence[Item]], Result]
    ) -> Iterator[tuple[Sequence[Item], Result]]:
        """Yield each batch of the items, in order, with what `work` makes of it.

        Args:
            what: what is done, in a word for the message and the record.
            items: what to work on.
            size: items at once, unless memory gave out before.
            work: must be of the same outcome, item by item, whatever the batch.

        Raises:
            ExhaustedError: memory does not suffice for one item.
        """
        start = 0
        while start < len(items):
            batch = items[start : start + min(size, self.found.get(what, size))]
            result = self._attempt(what, len(batch), partial(work, batch))
            if result is None:
                continue
            yield batch, result[0]
            start += len(batch)

    def training(self, size: int, attempt: Callable[[int], Result], relieve: Callable[[], bool]) -> Result:
        """Return what `attempt` returns for a training batch of `size`, or for the largest half of a half that fits.

        Args:
            size: images a step, as configured.
            attempt: trains from the beginning, or from a checkpoint of the same batch size.
            relieve: gives memory back that the training can do without; False where there is none.

        Raises:
            ExhaustedError: memory does not suffice for one image a step.
        """
        while True:
            fitting = self.found.get("train", size)
            result = self._attempt("train", fitting, partial(attempt, fitting), relieve)
            if result is not None:
                return result[0]

    def _attempt(
        self, what: str, size: int, work: Callable[[], Result], relieve: Callable[[], bool] = lambda: False
    ) -> tuple[Result] | None:
        """Return the result, or None after having made room for another try."""
        try:
            return (work(),)
        except Exception as error:
            if not is_exhausted(error):
                raise
            reason = str(error).strip().partition("\n")[0]
        # outside of the handler: the error holds the frames, and with them the tensors, of the attempt
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if relieve():
            self._say(f"{what}: out of memory with {size} images at once, stored features leave the device")
        elif size == 1:
            raise ExhaustedError(
                f"{what}: out of memory with a single image ({reason}). Choose a smaller input_size or encoder, or a "
                "device with more memory"
            )
        else:
            self.found[what] = size // 2
            self._say(f"{what}: out of memory with {size} images at once, trying {size // 2} ({reason})")
        return None
