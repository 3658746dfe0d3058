"""Headings for groups of options in a command's help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click


class Grouped(click.Command):
    """A command whose help lists its options by heading.

    Args:
        headings: heading -> parameter names, in the order of the help; what is in none comes last.
    """

    def __init__(self, *args: Any, headings: Mapping[str, Sequence[str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headings = headings

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each heading."""
        lines = {
            parameter.name: line
            for parameter in self.get_params(ctx)
            if (line := parameter.get_help_record(ctx)) is not None
        }
        named = {name for names in self.headings.values() for name in names}
        rest = [name for name in lines if name not in named]
        for heading, names in (*self.headings.items(), ("Help", rest)):
            if own := [lines[name] for name in names if name in lines]:
                with formatter.section(heading):
                    formatter.write_dl(own)
