"""Processes of one run that share this machine: each counts on its part of what is free, and no more.

A fact of the process, as its threads are: told once by whoever starts it.
"""

from __future__ import annotations

_machine = 1
_device = 1


def tell(machine: int, device: int) -> None:
    """Say how many processes share this machine's memory and disk, and how many of them this process's GPU."""
    global _machine, _device
    _machine, _device = machine, device


def part(place: str, free: int) -> int:
    """Return how many of the free bytes of a place (device, memory, file) this process may count on."""
    return free // (_device if place == "device" else _machine)
