"""What methods remember lies where there is room for it, and says the same wherever it lies."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.api import Batch, Batches
from bench.errors import StoreError
from bench.machine import feature_places
from bench.methods import _memory
from bench.methods._memory import Bank, Known, Rows

CPU = torch.device("cpu")


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def nothing_asked_for() -> None:
    feature_places.tell("auto", None)


def files(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes of the tensors that are mapped from files from now on."""
    made, mapped = [], feature_places.mapped

    def told(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        made.append(shape)
        return mapped(shape, dtype)

    monkeypatch.setattr(feature_places, "mapped", told)
    return made


@pytest.mark.parametrize("place", ["auto", "memory", "file", "none", "device"])
def test_room_is_where_the_user_wants_it(place: feature_places.Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = files(monkeypatch)
    feature_places.tell(place, None)
    room = feature_places.room((3, 4), torch.float16, CPU)
    assert (room.shape, room.dtype) == ((3, 4), torch.float16)
    assert made == ([(3, 4)] if place == "file" else [])


def test_what_does_not_fit_into_memory_goes_to_a_file_and_then_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    made = files(monkeypatch)
    free = {"memory": 1000, "file": 10_000, "device": 10**9}
    monkeypatch.setattr(feature_places, "free", lambda place, device: free[place])
    feature_places.room((100,), torch.float32, CPU)
    assert not made
    feature_places.room((101,), torch.float32, CPU)
    assert made == [(101,)]
    with pytest.raises(StoreError, match=r"takes 0\.0 GiB, and no place has room"):
        feature_places.room((2000,), torch.float32, CPU)
    feature_places.tell("memory", 1e-6)
    with pytest.raises(StoreError, match="Raise --store-budget"):
        feature_places.room((2000,), torch.float32, CPU)


@pytest.mark.parametrize("expected", [0, 5, 12, 20])
def test_rows_are_those_that_were_added(expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, room = [], _memory.room
    monkeypatch.setattr(_memory, "room", lambda *given: made.append(given[0][0]) or room(*given))
    whole = seeded(12, 3)
    rows = Rows(expected, CPU)
    for part in whole.split([1, 4, 0, 7]):
        rows.add(part)
    assert torch.equal(rows.all(), whole)
    assert made == {0: [1, 5, 12], 5: [5, 12], 12: [12], 20: [20]}[expected]
    half = Rows(12, CPU)
    half.add(whole, torch.float16)
    assert torch.equal(half.all(), whole.half())


def test_a_pass_says_how_many_images_it_has() -> None:
    batches = Batches(7, iter([Batch({"a": torch.ones(4)}), Batch({"a": torch.ones(3)})]))
    assert _memory.images_in(batches) == 7 and [batch.count for batch in batches] == [4, 3]
    assert _memory.images_in(iter([])) == 0


@pytest.mark.parametrize("count", [1, 3, 100])
def test_a_bank_searched_in_blocks_finds_the_same(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = seeded(50, 6), seeded(40, 6, seed=1)
    bank = Bank(1, 6)
    bank.bank = vectors
    wanted = torch.cdist(queries.double(), vectors.double()).sort(dim=1)
    for block, chunk in ((7, 2**24), (64, 64), (1, 1), (50, 300)):
        monkeypatch.setattr(_memory, "BLOCK", block)
        monkeypatch.setattr(_memory, "CHUNK", chunk)
        distances, rows = bank.nearest(queries, count)
        assert torch.equal(rows, wanted.indices[:, :count])
        torch.testing.assert_close(distances.double(), wanted.values[:, :count], rtol=1e-5, atol=1e-5)
        assert torch.equal(bank.at(rows[:, 0]), vectors[rows[:, 0]])


def test_a_stored_memory_comes_back_in_its_own_shape_type_and_place(monkeypatch: pytest.MonkeyPatch) -> None:
    known = Known(first=(1, 2), second=(3,))
    known.first, known.second = seeded(5, 7).half(), seeded(2)
    other = Known(first=(1, 2), second=(3,))
    made = files(monkeypatch)
    feature_places.tell("file", None)
    other.load_state_dict(known.state_dict())
    assert made == [(5, 7), (2,)]
    for name, kept in known.state_dict().items():
        assert torch.equal(kept, other.state_dict()[name]) and kept.dtype == other.state_dict()[name].dtype
