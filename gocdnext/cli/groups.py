"""A group that does its commonest thing when no command of it is named: `runs` is `runs list`, `run X` is `run start X`."""

from __future__ import annotations

import click


class DefaultGroup(click.Group):
    """`default` is the name of the command that is meant when the first word is none of the group's."""

    def __init__(self, *args: object, default: str, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self.default = default

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts the default in front of what is not a command, nor a question for help."""
        asks_for_help = bool(args) and args[0] in ctx.help_option_names
        if not asks_for_help and not (args and args[0] in self.commands):
            args = [self.default, *args]
        return super().parse_args(ctx, args)
