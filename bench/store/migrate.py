"""Migration of records from schema 1 to schema 2, on reading: older files keep counting, none is rewritten.

Schema 1 kept the list of metrics among the protocol's fields and in its hash, so that a metric more made a record
incomparable; schema 2 has it beside the rules, and the hash is over the rules alone. It also had the input size with
the encoder, which a method of schema 2 may lack. Records had no checksum at first.
"""

from __future__ import annotations

from typing import Any

from bench.protocol import hash_of

_SINCE_CHECKSUMS = "reduced"
"""A field that every record has which was written with a checksum, and none that was written before."""


class Unfit(Exception):
    """A field that has to be moved is not there; the text names it."""


def before_checksums(data: dict[str, Any]) -> bool:
    """Return whether a record of schema 1 was written when records had no checksum, rather than having lost it."""
    return "sha256" not in data and _SINCE_CHECKSUMS not in data


def from_schema_1(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a record of schema 1 as one of schema 2. Raises Unfit where one that moves is missing."""
    encoder, protocol = _part(data, "encoder"), _part(data, "protocol")
    fields = _part(protocol, "fields", "protocol.")
    try:
        if hash_of(fields) != protocol.get("hash"):
            raise Unfit(f"protocol.hash: found {protocol.get('hash')!r}, its fields give {hash_of(fields)}")
    except (RecursionError, TypeError) as error:
        raise Unfit(f"protocol.fields: {error}") from error
    moved: dict[str, Any] = {}
    for place, name, part in (("encoder", "input_size", encoder), ("protocol.fields", "metrics", fields)):
        if name not in part:
            raise Unfit(f"{place}.{name}: Field required")
        moved[name] = part.pop(name)
    del protocol["fields"]
    return {
        **data,
        "schema_version": 2,
        "encoder": encoder,
        "input_size": moved["input_size"],
        "protocol": {**protocol, "hash": hash_of(fields), "rules": fields, "metrics": moved["metrics"]},
    }


def _part(data: dict[str, Any], name: str, above: str = "") -> dict[str, Any]:
    """Return a copy of an object among the fields."""
    if not isinstance(data.get(name), dict):
        raise Unfit(f"{above}{name}: expected an object")
    return dict(data[name])
