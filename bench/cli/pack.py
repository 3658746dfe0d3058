"""`bench pack` and `bench reproduce`: records that anybody can recompute, without images, GPU or weights."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.echo import echo, print_json, quoted, suggest
from bench.cli.options import PATH, data_root_option, json_option, quiet_option
from bench.words import counted

PACK_EPILOG = """\b
Examples:
  bench pack results/runs/mvtec --data-root /data --out pack.zip
  bench pack results/runs/mvtec/dinomaly/multi/s0-1f3c.json --data-root /data --out dinomaly.zip

A pack holds the records, their scores by image, the versions of packages and, in place of images and anomaly maps, the
ranks of the anomalous pixels among the normal ones: every exact metric follows from these. Pixel ranks take the maps
(bench run --keep-maps; from a kept model they are made without training) and the dataset's masks.
Exit code: 0 packed, 1 packed but pixel metrics of a class cannot be recomputed from it, 2 something given was wrong.
"""
REPRODUCE_EPILOG = """\b
Examples:
  bench reproduce pack.zip
  bench reproduce pack.zip --json

Every number of each record is computed again from the pack alone and held against the recorded one, to 1e-12.
Exit code: 0 all came out as recorded, 1 one did not, 2 the pack cannot be read.
"""


@click.command(epilog=PACK_EPILOG)
@click.argument("records", nargs=-1, required=True, type=PATH, metavar="RECORDS...")
@click.option("--out", metavar="FILE", type=PATH, required=True, help="The zip to write.")
@data_root_option()
@quiet_option()
def pack(records: tuple[Path, ...], out: Path, data_roots: tuple[str, ...], quiet: bool) -> int:
    """Pack records so that anybody can recompute their numbers without images, GPU or weights."""
    from bench.machine.terminal import TerminalProgress
    from bench.packs import write
    from bench.store.evidence import EvidenceFiles
    from bench.store.folder import find

    place = write.checked_out(out)
    found = write.chosen(find(records).records)
    folders = [path if path.is_dir() else path.parent for path in records]
    done = write.pack(found, EvidenceFiles(folders, data_roots), place, TerminalProgress.of(quiet))
    for why in done.lacking:
        echo(f"no pixel ranks: {why}", err=True)
    echo(
        f"{out}: {counted(done.records, 'record')}, pixel ranks of {counted(done.classes, 'class', 'classes')}, "
        f"{done.bytes / 2**20:.1f} MiB"
    )
    suggest(f"bench reproduce {quoted(out)}")
    return 1 if done.lacking else 0


@click.command(epilog=REPRODUCE_EPILOG)
@click.argument("pack", type=PATH, metavar="PACK")
@json_option()
def reproduce(pack: Path, as_json: bool) -> int:
    """Recompute every number of a pack and say which come out as recorded."""
    from bench.packs.reproduce import reproduce as recompute

    numbers = recompute(pack)
    other = [number for number in numbers if not number.why_not and not number.same]
    absent = [number for number in numbers if number.why_not]
    if as_json:
        keys = ("cell", "line", "metric", "recorded", "computed")
        print_json(
            numbers=len(numbers),
            same=len(numbers) - len(other) - len(absent),
            other=[{key: getattr(number, key) for key in keys} for number in other],
            not_in_pack=[
                {"cell": one.cell, "line": one.line, "metric": one.metric, "why": one.why_not} for one in absent
            ],
        )
        return 1 if other else 0
    for number in other:
        echo(f"{number.cell}, {number.line}, {number.metric}: recorded {number.recorded}, computed {number.computed}")
    for why in dict.fromkeys(number.why_not for number in absent):
        metrics = dict.fromkeys(number.metric for number in absent if number.why_not == why)
        echo(f"not recomputed: {', '.join(metrics)} ({why})")
    cells = len({number.cell for number in numbers})
    echo(
        f"{counted(len(numbers), 'number')} of {counted(cells, 'record')}: "
        f"{len(numbers) - len(other) - len(absent)} come out as recorded, {len(other)} do not, "
        f"{len(absent)} cannot be recomputed from a pack"
    )
    return 1 if other else 0
