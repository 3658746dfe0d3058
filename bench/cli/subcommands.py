"""Command groups that name their sub-commands where an unknown one is asked for."""

from __future__ import annotations

import click

from bench.errors import UsageError
from bench.registry import did_you_mean


class Subcommands(click.Group):
    """A group such as `bench data`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named first.

        Raises:
            UsageError: there is none of that name.
        """
        name = args[0]
        if not (name in self.commands or name.startswith("-") or ctx.resilient_parsing):
            raise UsageError(
                f"{ctx.command_path} has no command '{name}'.{did_you_mean(name, self.commands)} "
                f"Known: {', '.join(self.commands)}. See: {ctx.command_path} --help"
            )
        return super().resolve_command(ctx, args)
