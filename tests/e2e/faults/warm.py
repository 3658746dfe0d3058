"""Forks `bench` commands from a process that has imported everything already: 20 kills in seconds, not minutes.

Reads one JSON object a line: {"start": [arguments], "cwd", "out", "stdout", "env", "file_size", "user"} answers with a
process id, {"wait": pid} with the exit status as os.waitstatus_to_exitcode gives it.
"""

from __future__ import annotations

import json
import os
import pty
import resource
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def serve() -> None:
    with suppress(ImportError):
        import pandas  # noqa: F401 - where it is installed pyarrow loads it with the first table
    import pyarrow.parquet  # noqa: F401
    import scipy.stats  # noqa: F401
    import torch

    from bench.api import EncoderRequest
    from bench.encoders import catalog, frozen, weights
    from bench.machine import rates
    from bench.registry import DATASETS, METHODS
    from bench.store.provenance import commit

    # one thread: others would be missing after a fork
    torch.set_num_threads(1)
    METHODS.load("knn")
    DATASETS.load("folder")
    # what every command would find out again; the frozen encoder costs more than all else and is not what is tested
    request = EncoderRequest("vit_tiny_patch8_128.bench", (3,), 32)
    catalog.describe(request.name, request.input_size, request.blocks)
    frozen.skeleton, frozen.build = once(frozen.skeleton), once(frozen.build)
    frozen.skeleton(request)
    frozen.build(request, weights.locate(request.name))
    # large matrices are for the sake of exactness
    rates.SIDE["cpu"] = 256
    rates.matrix_rate(torch.device("cpu"))
    commit()
    print("ready", flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        answer = start(order) if "start" in order else os.waitstatus_to_exitcode(os.waitpid(order["wait"], 0)[1])
        print(answer, flush=True)


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """Keep what is made for an encoder's request, whatever else it is asked with: it comes from the one file."""
    known: dict[Any, Any] = {}

    def call(request: Any, *others: Any) -> Any:
        if request not in known:
            known[request] = function(request, *others)
        return known[request]

    return call


def start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        out = os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(out, 2)
        if order["stdout"] is not None:
            _break_output(order["stdout"])
        os.chdir(order["cwd"])
        os.environ.update(order["env"])
        if order["file_size"] is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"], order["file_size"]))
        if order["user"] is not None:
            os.setgroups([])
            os.setgid(order["user"])
            os.setuid(order["user"])
        from bench.cli.main import run

        code = run(order["start"])
        sys.stdout.flush()
    finally:
        # nothing of the parent's is to run at exit
        os._exit(code)


def _break_output(how: str) -> None:
    """Put a pipe without a reader, or a file on a full disk, in place of standard output; or close the terminal."""
    if how == "no reader":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
    elif how == "full disk":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
    elif how == "closed terminal":
        ours, theirs = pty.openpty()
        os.dup2(theirs, 1)
        os.dup2(theirs, 2)
        os.close(ours)
    else:
        assert how == "closed", how
        os.close(1)
        os.close(2)


if __name__ == "__main__":
    serve()
