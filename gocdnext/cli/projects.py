"""`apply`: from files to pipelines."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gocdnext.cli import complete
from gocdnext.cli.common import Failure, Target, print_json, target_options
from gocdnext.cli.providers import hook_line
from gocdnext.cli.terminal import safe

if TYPE_CHECKING:
    from gocdnext.client.messages import Applied, Synced

CONFIG_FOLDER = ".gocdnext"
MAX_FILES_SIZE = 5 * 1024 * 1024
"""Bytes: what the server takes in one request (contract-runs 2.4)."""
PROVIDERS = ("github", "gitlab", "bitbucket", "manual")


@click.command()
@target_options
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False), default=".")
@click.option("--slug", metavar="SLUG", shell_complete=complete.projects, help="Name of the project in addresses.")
@click.option("--name", help="Name shown to people. Left out: the slug.")
@click.option("--description", help="One line about the project.")
@click.option("--config-repo", metavar="URL", help="Repository that holds the files; kept for the record.")
@click.option("--scm-url", metavar="URL", help="Repository that starts the pipelines. Needs --scm-provider.")
@click.option("--scm-provider", type=click.Choice(PROVIDERS), help="Where that repository lives. Needs --scm-url.")
@click.option("--scm-default-branch", metavar="BRANCH", default="main", show_default=True)
@click.option("--scm-webhook-secret-file", type=click.File(), help="File with the webhook's secret; - is stdin.")
@click.option("--scm-webhook-secret", metavar="SECRET", help="The same on the command line, where others can see it.")
@click.option("--from-repository", is_flag=True, help="Let the server read the files from --scm-url, and send none.")
def apply(target: Target, path: Path, slug: str | None, from_repository: bool, **options: object) -> None:
    """Create or update a project from PATH/.gocdnext/*.yaml, or from the same folder of its repository."""
    if not slug:
        suggestion = path.resolve().name.lower().replace("_", "-").replace(" ", "-")
        raise click.UsageError(f"--slug is needed: the name of the project, for example --slug {suggestion}")
    request: dict[str, object] = {"slug": slug}
    request |= {key: options[key] for key in ("name", "description", "config_repo") if options[key]}
    source = scm_source(options)
    if from_repository and source is None:
        raise click.UsageError("--from-repository needs --scm-url and --scm-provider: which repository?")
    request["files"] = [] if from_repository else read_files(path)
    if source is not None:
        request["scm_source"] = source
    with target.client(f"applying {slug}") as client:
        answer = client.apply(request)
    if target.as_json:
        print_json(answer)
        return
    for line in report(answer):
        click.echo(safe(line, colours=False))
    for warning in answer.get("warnings") or []:
        click.echo(f"warning: {safe(str(warning), colours=False)}", err=True)


def read_files(path: Path) -> list[dict[str, str]]:
    """The pipeline files of a folder, by name. Ends the command when there are none or one is not text."""
    folder = path if path.name == CONFIG_FOLDER else path / CONFIG_FOLDER
    found = sorted((file for file in folder.glob("*") if file.suffix in (".yaml", ".yml")), key=lambda file: file.name)
    if not found:
        raise Failure(f"there is no pipeline in {folder}/: it needs a file like {folder}/ci.yaml")
    files, size = [], 0
    for file in found:
        size += file.stat().st_size
        if size > MAX_FILES_SIZE:
            raise Failure(f"the files in {folder} are over {MAX_FILES_SIZE // 1024**2} MiB, which no server takes")
        try:
            files.append({"name": file.name, "content": file.read_text(encoding="utf-8")})
        except UnicodeDecodeError as error:
            raise Failure(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from None
        except OSError as error:
            raise Failure(f"cannot read {file}: {error.strerror}") from None
    return files


def scm_source(options: dict[str, object]) -> dict[str, object] | None:
    """The `scm_source` of the request; its two required options come together or not at all."""
    url, provider = options["scm_url"], options["scm_provider"]
    if bool(url) != bool(provider):
        raise click.UsageError("--scm-url and --scm-provider belong together")
    if not url:
        return None
    source = {"provider": provider, "url": url, "default_branch": options["scm_default_branch"]}
    file = options["scm_webhook_secret_file"]
    secret = file.read().rstrip("\n") if isinstance(file, io.TextIOBase) else options["scm_webhook_secret"]
    if secret:
        source["webhook_secret"] = secret
    return source


def report(answer: Applied | Synced) -> list[str]:
    """What an apply did, line by line (contract-cli 4.3), and what only this answer ever shows."""
    lines = [f"project {_verb(answer.get('project_created'))} {answer.get('project_id')}"]
    source = answer.get("scm_source")
    if isinstance(source, dict):
        place = f"{source.get('url')}, {source.get('default_branch') or 'main'}"
        lines.append(f"  scm_source {_verb(source.get('created'))} {source.get('provider')} ({place})")
        if secret := source.get("generated_webhook_secret"):
            lines.append(f"  webhook secret, shown this once: {secret}")
    hooks = answer.get("webhooks")
    lines += [f"  {hook_line(hook)}" for hook in (hooks if isinstance(hooks, list) else [])]
    pipelines = answer.get("pipelines")
    for pipeline in pipelines if isinstance(pipelines, list) else []:
        materials = f"+{pipeline.get('materials_added', 0)} -{pipeline.get('materials_removed', 0)}"
        lines.append(f"  pipeline {_verb(pipeline.get('created'))} {pipeline.get('name')} (materials: {materials})")
    removed = answer.get("pipelines_removed")
    lines += [f"  pipeline removed {name}" for name in (removed if isinstance(removed, list) else [])]
    return lines


def _verb(created: object) -> str:
    return "created" if created else "updated"
