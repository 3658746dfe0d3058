"""Field types of records: stricter than pydantic's, or kinder where a record still has to be written."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class RecordPart(BaseModel):
    """An object of a record: no fields but its own, no NaN, no number that Parquet and tables have no room for."""

    # JSON has no NaN: it would be written as null, and a score would turn into an undefined one without a reason
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fits_64_bits(self) -> Self:
        # larger numbers are nobody's measurement, and neither Parquet nor a table has room for them
        for name, value in self:
            if name == "config":
                # a learning rate of 1e30 is the user's own, and the record of how it failed has to be written
                continue
            for number in value.values() if isinstance(value, dict) else (value,):
                if isinstance(number, int | float) and not -(2**63) <= number < 2**63:
                    raise ValueError(f"{name} is beyond 64 bits")
        return self


def encodable(value: object) -> object:
    """Spell out what is not UTF-8 (bytes of a path that the user gave), which JSON and pydantic would refuse."""
    if isinstance(value, dict):
        return {encodable(key): encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [encodable(item) for item in value]
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode()


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
