from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from bench.run.seeding import BatchOrder, seed_everything


def steps_of(order: BatchOrder, first: int, last: int) -> list[list[int]]:
    return [order.at(step).tolist() for step in range(first, last)]


@pytest.mark.parametrize(("count", "size"), [(12, 4), (13, 4), (15, 4), (1, 1), (7, 7), (100, 1)])
def test_an_epoch_sees_each_image_once_and_drops_the_rest(count: int, size: int) -> None:
    order = BatchOrder(count, size, seed=0)
    batches = count // size
    for epoch in range(3):
        seen = [index for batch in steps_of(order, epoch * batches, (epoch + 1) * batches) for index in batch]
        assert len(seen) == batches * size == len(set(seen))
        assert set(seen) <= set(range(count))


def test_no_image_is_left_out_for_ever() -> None:
    order = BatchOrder(7, 4, seed=0)
    assert {index for batch in steps_of(order, 0, 20) for index in batch} == set(range(7))


def test_batches_are_int64_of_the_batch_size() -> None:
    batch = BatchOrder(10, 4, seed=0).at(0)
    assert batch.dtype == torch.int64 and batch.shape == (4,)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_sets_smaller_than_a_batch_still_train(count: int) -> None:
    order = BatchOrder(count, 16, seed=3)
    assert order.batch_size == count
    for step in range(5):
        assert sorted(order.at(step).tolist()) == list(range(count))


def test_the_order_depends_on_seed_and_step_alone() -> None:
    want = steps_of(BatchOrder(50, 8, seed=5), 0, 40)
    torch.manual_seed(123)
    again = BatchOrder(50, 8, seed=5)
    for step in [39, 0, 17, 18, 5, 39, 12]:
        torch.rand(3)
        assert again.at(step).tolist() == want[step]
    state = torch.get_rng_state()
    again.at(0)
    assert torch.equal(torch.get_rng_state(), state), "drawing the order must not move training's generator"


def test_the_order_stands() -> None:
    # a checkpoint of an older version goes on with this order
    assert steps_of(BatchOrder(6, 3, seed=0), 0, 3) == [[1, 4, 5], [3, 2, 0], [5, 4, 1]]


def test_epochs_and_seeds_differ() -> None:
    def epoch(seed: int, number: int) -> tuple[int, ...]:
        return tuple(BatchOrder(64, 64, seed).at(number).tolist())

    assert len({epoch(seed, number) for seed in range(10) for number in range(10)}) == 100


def test_every_generator_is_seeded() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    seed_everything(7)
    first = draw()
    seed_everything(7)
    assert draw() == first
    seed_everything(8)
    assert not set(draw()) & set(first)
    seed_everything(2**40)
    draw()
