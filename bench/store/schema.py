"""The JSON Schema of records: `python -m bench.store.schema` prints what docs/record.schema.json holds."""

from __future__ import annotations

import json

from bench.store.record import Record


def schema() -> str:
    """Return the schema of a finished or failed cell's record as JSON."""
    found = Record.model_json_schema()
    found["properties"]["sha256"] = {"type": "string", "description": "over all other keys, see bench.store.record"}
    facts = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "bench record"}
    return json.dumps({**facts, **found, **facts}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
