from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from bench.cache import cache_dir
from bench.cli.main import COMMANDS, cli
from bench.cli.options import PATH, names
from bench.encoders import weights
from bench.errors import UsageError
from bench.home import expanded


def commands() -> Iterator[click.Command]:
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        yield from command.commands.values() if isinstance(command, click.Group) else (command,)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user that the system knows nothing of, as containers have."""

    def unknown(key: object) -> None:
        raise KeyError(key)

    for name in ("HOME", "BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a,b", ("a", "b")),
        (" a , b ,, a", ("a", "b")),
        (None, ()),
        ("", ()),
        (",", ()),
        ('"bolt, large",nut', ("bolt, large", "nut")),
        ('nut , "bolt, large" ', ("nut", "bolt, large")),
        ('" blank "', (" blank ",)),
        ('"5"" bolt, long"', ('5" bolt, long',)),
        ('5" bolt', ('5" bolt',)),
        ("T-shirt/top", ("T-shirt/top",)),
        ('"', ('"',)),
        ("a\nb,c", ("a\nb", "c")),
    ],
)
def test_lists_of_names_are_split_at_commas_outside_of_quotes(text: str | None, found: tuple[str, ...]) -> None:
    assert names(text) == found


def test_every_option_that_names_a_path_knows_the_home() -> None:
    options = [option for command in commands() for option in command.params]
    paths = [option for option in options if isinstance(option.type, click.Path)]
    assert len(paths) > 15 and all(option.type is PATH for option in paths)
    # others that take a folder would be text
    texts = {option.metavar for option in options if isinstance(option, click.Option) and option.metavar} - {
        option.metavar for option in paths if isinstance(option, click.Option)
    }
    assert {text for text in texts if text and ("DIR" in text or "FILE" in text or "PATH" in text)} == set()


def test_a_tilde_is_the_home_wherever_a_path_is_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert expanded("~/x") == home / "x" and expanded("~") == home
    assert expanded("a/~/b") == Path("a/~/b") and expanded("./~x") == Path("~x")
    monkeypatch.setenv("BENCH_CACHE", "~/cache")
    assert cache_dir() == home / "cache"
    monkeypatch.delenv("BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/xdg")
    assert cache_dir() == home / "xdg" / "bench"
    monkeypatch.setenv("BENCH_WEIGHTS", "~/weights")
    with pytest.raises(weights.WeightsError, match=f"no weights folder {home}/weights"):
        weights.at_hand("vit_small_patch14_dinov2.lvd142m")
    with pytest.raises(UsageError, match=r"no home folder is known for '~nosuchuser'.*\./~nosuchuser/x"):
        expanded("~nosuchuser/x")


@pytest.mark.parametrize("spelt", [("--data-root", "folder=~/data"), ("--data-root=~/data",)])
def test_a_run_finds_its_data_and_leaves_its_records_below_the_home(
    bench: Callable, home: Path, tmp_path: Path, write_tree: Callable, spelt: tuple[str, ...]
) -> None:
    write_tree(home / "data", classes=("dots",))
    wanted = ["--methods", "knn", "--datasets", "folder", "--encoder", "vit_tiny_patch8_128.bench"]
    done = bench("run", *wanted, *spelt, "--results=~/runs", "--set", "knn.input_size=32", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert len(list((home / "runs").rglob("s0*.json"))) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home"]


def test_a_user_without_a_home_is_told_what_to_set(homeless: None, bench: Callable) -> None:
    assert not Path(os.path.expanduser("~/x")).is_absolute()  # noqa: PTH111
    done = bench("cache", "show")
    assert done.returncode == 2 and done.stderr.startswith(
        "error: no folder for what bench keeps: this user has no home"
    )
    assert "BENCH_CACHE" in done.stderr
    done = bench("report", "--results", "~/x")
    assert done.returncode == 2 and "no home folder is known for '~'" in done.stderr


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("folder=a", "folder=b"), "folder: two folders, a and b"),
        (("a", "b"), "two folders for all datasets, a and b. Expected one, or name=DIR"),
        (("folder=a", "a", "b"), "two folders for all datasets"),
        (("foldr=a",), "--data-root foldr=a: no such folder. Did you mean 'folder'?"),
    ],
)
def test_two_data_roots_for_one_dataset_are_refused(bench: Callable, given: tuple[str, ...], message: str) -> None:
    roots = [part for root in given for part in ("--data-root", root)]
    run = ["run", "--methods", "knn", "--datasets", "folder", "--encoder", "vit_tiny_patch8_128.bench"]
    done = bench(*run, *roots)
    assert done.returncode == 2 and message in done.stderr, done.stderr
    if len(given) > 1:
        for command in (
            ["report"],
            ["compare", "a", "b"],
            ["doctor"],
            ["score", "--method", "m", "--datasets", "folder"],
        ):
            done = bench(*command, *roots)
            assert done.returncode == 2 and message in done.stderr, (command, done.stderr)


def test_a_class_with_a_comma_is_chosen_in_quotes(bench: Callable, tmp_path: Path, write_tree: Callable) -> None:
    write_tree(tmp_path / "data", classes=("bolt, large", "nut"))
    run = ["run", "--methods", "knn", "--datasets", "folder", "--encoder", "vit_tiny_patch8_128.bench", "--dry-run"]
    run += ["--data-root", "data", "--set", "knn.input_size=32", "--device", "cpu"]
    done = bench(*run, "--classes", "bolt, large")
    assert done.returncode == 2 and """in quotes: --classes '"bolt, large"'""" in done.stderr
    done = bench(*run, "--classes", '"bolt, large"')
    assert done.returncode == 0 and "1 cell: 1 to do" in done.stdout, done.stderr
    done = bench("data", "sheet", "folder", "--root", "data", "--classes", '"bolt, large",nut')
    assert done.returncode == 0, done.stderr
