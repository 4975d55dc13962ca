"""The table of commands, and the way in and out: what is imported when, and which exit code an ending has.

Exit codes: 0 done, 1 the run or check failed, 2 usage, 3 cannot reach or not allowed, 130 interrupted.
Only click is imported here: a command pays for its own libraries and for no other's.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import NamedTuple, NoReturn, cast

import click

from gocdnext import __version__


class Entry(NamedTuple):
    """A command that is imported when it is called."""

    module: str
    attribute: str
    help: str


COMMANDS = {
    "serve": Entry("serve", "serve", "Run the server: database, scheduler, HTTP and agent ports."),
    "agent": Entry("serve", "agent", "Run an agent, configured by GOCDNEXT_* variables."),
    "apply": Entry("projects", "apply", "Create or update a project from the files in .gocdnext."),
    "validate": Entry("validate", "validate", "Check pipeline files without a server."),
    "explain": Entry("language", "explain", "Show what a pipeline file means."),
    "schema": Entry("language", "schema", "Print the JSON schema of pipeline files, for editors."),
    "import": Entry("language", "import_", "Translate a pipeline of GitLab or GitHub."),
    "run-local": Entry("local", "run_local", "Run a pipeline file on this machine, without a server."),
    "environments": Entry("environments", "environments", "Look at environments, freeze them, roll back."),
    "trigger": Entry("pipelines", "trigger", "Start a run of a pipeline."),
    "run": Entry("runs", "run", "Start a run of a pipeline, and follow it."),
    "projects": Entry("project_group", "projects", "List, show and delete projects, start all pipelines of one."),
    "pipelines": Entry("pipelines", "pipelines", "List pipelines, show one or its source, start a run."),
    "retention": Entry("retention", "retention", "Show what sweepers have done, and let them sweep."),
    "crons": Entry("crons", "crons", "Keep the schedules of a project."),
    "vsm": Entry("vsm", "vsm", "Draw the value stream map of a project."),
    "secret": Entry("secrets", "secret", "Set, list and remove secrets."),
    "notifications": Entry("project_settings", "notifications", "What a project tells whom when its runs end."),
    "labels": Entry("project_settings", "labels", "Labels of projects."),
    "caches": Entry("project_settings", "caches", "List and remove caches of a project."),
    "dashboard": Entry("project_group", "dashboard", "Show the figures of the whole server."),
    "runs": Entry("runs", "runs", "List runs, show, watch, cancel and repeat one."),
    "jobs": Entry("jobs", "jobs", "Cancel, repeat, approve and reject jobs, print their logs."),
    "webhooks": Entry("webhooks", "webhooks", "Look at deliveries of webhooks, and process one again."),
    "integrations": Entry("providers", "integrations", "See what works with which provider, and keep GitHub Apps."),
    "artifacts": Entry("artifacts", "artifacts", "List and fetch what the jobs of a run have delivered."),
    "tests": Entry("reports", "tests", "Show the test results of a run."),
    "coverage": Entry("reports", "coverage", "Show the coverage of a run, or of a pipeline over time."),
    "logs": Entry("logs", "logs", "Print the log of a run, or follow it."),
    "cancel": Entry("runs", "cancel", "Cancel a run."),
    "plugins": Entry("plugins", "plugins", "List the plugins that jobs can use, or show one."),
    "agents": Entry("agents", "agents", "Look at agents, disable and enable them, make tokens."),
    "login": Entry("login", "login", "Keep a token for a server."),
    "logout": Entry("login", "logout", "Forget the token of a server."),
    "whoami": Entry("login", "whoami", "Show who the server takes us for."),
    "token": Entry("tokens", "token", "Your own API tokens."),
    "service-account": Entry("tokens", "service_account", "Service accounts and their tokens."),
    "users": Entry("users", "users", "Accounts of people."),
    "groups": Entry("user_groups", "groups", "Groups of people whom gates ask for."),
    "scm-credentials": Entry("server_settings", "scm_credentials", "What repositories are reached with."),
    "profiles": Entry("server_settings", "profiles", "Runner profiles."),
    "health": Entry("server_settings", "health", "Show how the server is."),
    "admin": Entry("admin", "admin", "Accounts from beside the server, without signing in."),
    "backup": Entry("backup", "backup", "Back up a server while it runs, and prove that a backup is good."),
    "restore": Entry("backup", "restore", "Restore a backup into an empty state directory or database."),
    "oidc": Entry("issuer", "oidc", "The keys that identity tokens of jobs are signed with."),
    "setup-code": Entry("admin", "setup_code", "Show the code that makes the first admin."),
    "audit": Entry("audit", "audit", "Show who did what, or tried to; follow it, or export it."),
    "doctor": Entry("doctor", "doctor", "Check that this machine and the server are in order."),
    "docs": Entry("docs", "docs", "Read the documentation."),
    "bundle": Entry("bundle", "bundle", "Check archives for sites without a network."),
    "install-service": Entry("service", "install_service", "Make a systemd service of this file."),
    "config": Entry("about", "config", "Show every setting of the server."),
    "version": Entry("about", "version", "Show the version of this program and of the server."),
    "completion": Entry("about", "completion", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    """A group whose commands are in COMMANDS; help and completion of names import none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"gocdnext.cli.{entry.module}")
        return cast("click.Command", getattr(module, entry.attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[click.shell_completion.CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [CompletionItem(name, help=COMMANDS[name].help) for name in COMMANDS if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="gocdnext", message="%(prog)s version %(version)s")
@click.pass_context
def program(ctx: click.Context) -> None:
    """A CI/CD control plane in one file.

    Commands talk to the server at --server, GOCDNEXT_SERVER_URL or http://localhost:8153, with the token in
    GOCDNEXT_TOKEN or in the configuration file. Exit codes: 0 done, 1 the run or check failed, 2 usage,
    3 cannot reach or not allowed.
    """
    if os.environ.get("NO_COLOR"):
        ctx.color = False
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """The entry point. Ends the process with the exit code of the command."""
    try:
        code = program.main(args=arguments, prog_name="gocdnext", standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo(err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone (`| head`): nobody to say anything to. Exit code as click's own.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
