"""What can be refused by its name costs no start of torch, and what goes well says so at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import write_tree

from bench.words import counted

REFUSED = {
    "no method": ("--methods dinomally --datasets mvtec --data-root nowhere", "Did you mean 'dinomaly'?"),
    "no dataset": ("--methods dinomaly --datasets mvtek", "unknown dataset 'mvtek'. Did you mean 'mvtec'?"),
    "no suite": ("--suite dmo", "unknown suite 'dmo'. Did you mean 'demo'?"),
    "nothing": ("--methods dinomaly", "nothing to run"),
    "no setting": ("--methods dinomaly --datasets mvtec --setting mutli", "Did you mean 'multi'?"),
    "no shots": ("--methods dinomaly --datasets mvtec --setting few-shot", "Expected --shots K"),
    "no seeds": ("--methods dinomaly --datasets mvtec --seeds 1-3", "expected whole numbers"),
    "no protocol": ("--methods dinomaly --datasets mvtec --protocol comon", "Did you mean 'common'?"),
    "no split": ("--methods dinomaly --datasets cifar10 --splits Q", "cifar10 has no split 'Q'"),
    "no method to set": ("--methods dinomaly --datasets mvtec --set vitda.lr=1", "unknown method 'vitda'"),
    "no setting of a method": ("--methods dinomaly --datasets mvtec --set dinomaly.step=1", "Did you mean 'steps'?"),
    "an inherited one": ("--methods dual_student --datasets mvtec --set dual_student.step=1", "Did you mean 'steps'?"),
    "no form of a setting": ("--methods dinomaly --datasets mvtec --set steps=1", "expected method.key=value"),
    "no device": ("--methods dinomaly --datasets mvtec --device tpu", "expected auto, cpu, cuda or cuda:N"),
    "no cluster": ("--methods dinomaly --datasets mvtec --gpus 1", "--executor local has none"),
    "no folder": ("--methods dinomaly --datasets mvtec --data-root nowhere", "nowhere: no such folder"),
    "no root": ("--methods dinomaly --datasets mvtec", "mvtec: no data root given"),
    "no class": ("--methods dinomaly --datasets folder --data-root tree --classes dot", "Did you mean 'dots'?"),
    "another layout": ("--methods dinomaly --datasets visa --data-root tree", "VisA"),
}
ASK = """
import contextlib, io, json, sys
from bench.cli.main import run
found = {}
for name, arguments in json.loads(sys.argv[1]).items():
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = run(["run", *arguments.split()])
    found[name] = [code, err.getvalue(), sorted({"torch", "timm", "torchvision", "numba"} & set(sys.modules))]
print(json.dumps(found), file=sys.__stdout__)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, list[str]]]:
    """What each of the command lines was answered with, and what was loaded by then."""
    folder = tmp_path_factory.mktemp("start")
    write_tree(folder / "tree")
    asked = json.dumps({name: arguments for name, (arguments, _) in REFUSED.items()})
    done = subprocess.run(
        [sys.executable, "-c", ASK, asked], capture_output=True, text=True, check=True, cwd=folder, env=os.environ
    )
    found: dict[str, tuple[int, str, list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", REFUSED)
def test_what_names_and_folders_tell_is_refused_without_torch(
    name: str, answers: dict[str, tuple[int, str, list[str]]]
) -> None:
    code, said, loaded = answers[name]
    assert code == 2 and REFUSED[name][1] in said and loaded == []


def test_a_valid_run_speaks_before_torch_is_loaded(tmp_path: Path) -> None:
    write_tree(tmp_path / "tree")
    # stands in the way of torch, and shows what was said by then
    code = "import sys\nsys.modules['torch'] = None\nfrom bench.cli.main import run\nrun(['run', *sys.argv[1:]])\n"
    given = ["--methods", "dinomaly", "--datasets", "folder", "--data-root", "tree"]
    done = subprocess.run([sys.executable, "-c", code, *given], cwd=tmp_path, capture_output=True, text=True)
    said = done.stdout + done.stderr
    assert said.index("reading folder") < said.index("loading torch") < said.index("'torch' is not installed here")


def test_one_thing_is_one_thing() -> None:
    assert [counted(count, "cell") for count in (0, 1, 2, 1725)] == ["0 cells", "1 cell", "2 cells", "1,725 cells"]
    assert [counted(count, "class", "classes") for count in (1, 6)] == ["1 class", "6 classes"]
