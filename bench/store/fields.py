"""Types of a record's fields that pydantic would read too kindly, or refuse where a record still has to be written."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field


def encodable(value: object) -> object:
    """Spell out what is not UTF-8 (bytes of a path that the user gave), which JSON and pydantic would refuse."""
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(item) for item in value]
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _number(value: object) -> object:
    # pydantic would take true for 1, and "0.5" for 0.5
    if isinstance(value, bool | str):
        raise ValueError(f"{value!r} is no number")
    return value


Text = Annotated[str, BeforeValidator(encodable)]
"""Text from outside that may hold a path."""
Facts = Annotated[dict[str, Any], BeforeValidator(encodable)]
"""Values by name, of whatever types they are."""
Number = Annotated[float, BeforeValidator(_number)]
Amount = Annotated[float, BeforeValidator(_number), Field(ge=0)]
"""Seconds, MiB, images a second: nothing of which there is less than none."""
Count = Annotated[int, BeforeValidator(_number), Field(ge=0)]
