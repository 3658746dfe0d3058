"""`bench completion`: the lines with which a shell completes commands, options and names."""

from __future__ import annotations

import click

EPILOG = """\b
Examples, for the file that your shell reads first:
  bash   eval "$(bench completion bash)"     in ~/.bashrc
  zsh    eval "$(bench completion zsh)"      in ~/.zshrc
  fish   bench completion fish | source      in ~/.config/fish/config.fish

\b
Then, with the tab key:
  bench run --methods dinomaly,vi
  bench show mv
"""


@click.command(epilog=EPILOG)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what SHELL needs to complete commands, options, methods, datasets and suites."""
    from click.shell_completion import get_completion_class

    from bench.cli.main import cli

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(cli, {}, "bench", "_BENCH_COMPLETE")
    click.echo(made.source_template % made.source_vars())
