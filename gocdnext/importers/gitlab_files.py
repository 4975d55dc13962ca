"""The files of a GitLab job: artifacts, reports and caches."""

from __future__ import annotations

import re

from gocdnext import durations
from gocdnext.importers import gitlab_variables as variables
from gocdnext.importers.draft import Job
from gocdnext.importers.gitlab_fixed import Fixed
from gocdnext.importers.reading import Part
from gocdnext.pipeline.job_parts import COVERAGE_FORMATS, cache_key_flaw
from gocdnext.pipeline.nodes import Mapping


def artifacts(made: Job, job: Part, fixed: Fixed) -> None:
    """`artifacts`, and the reports among them."""
    part = job.part("artifacts")
    if part is None:
        return
    made.optional = fixed.plains("paths", part)
    made.artifacts_when = part.text("when") if part.text("when") in ("on_failure", "always") else ""
    text = part.text("expire_in")
    if text and text != "never":
        if durations.retention(text) is not None:
            made.expire_in = text
        else:
            advice = "write a length such as `7d`"
            fixed.notes.add(part.line("expire_in"), f"`expire_in: {text}` of {fixed.called}", advice)
    reports = part.part("reports")
    if reports is not None:
        made.test_reports = fixed.plains("junit", reports)
        coverage = reports.part("coverage_report")
        if coverage is not None:
            form, path = (
                coverage.text("coverage_format"),
                fixed.plain("the report", coverage.text("path"), coverage.line("path")),
            )
            if form in COVERAGE_FORMATS and path and "*" not in path and ".." not in path and path[0] != "/":
                made.coverage_report = {"path": path, "format": form}
            else:
                advice = "one file, relative to the workspace, in one of the formats " + ", ".join(COVERAGE_FORMATS)
                fixed.notes.add(coverage.line("path"), f"`coverage_report` of {fixed.called}", advice)
        reports.rest(
            f"`reports` of {fixed.called}",
            {"dotenv": "write `NAME=value` lines into `$GOCDNEXT_OUTPUT_FILE` and list them under `outputs`"},
        )
    part.skip("name", "expose_as", "public", "access", "when")
    part.rest(f"`artifacts` of {fixed.called}", {"exclude": "list the wanted paths only"})


def caches(made: Job, job: Part, fixed: Fixed) -> None:
    """`cache`, one or several."""
    for node in job.items("cache"):
        if not isinstance(node, Mapping):
            continue
        part = Part(node, fixed.notes)
        key, paths = _cache_key(part, fixed), fixed.plains("paths", part)
        part.skip("policy", "when", "unprotect")
        part.rest(f"`cache` of {fixed.called}", {"fallback_keys": "a miss starts with an empty folder"})
        if key and paths:
            made.cache.append((key, paths))


def _cache_key(part: Part, fixed: Fixed) -> str:
    """The key in our grammar; empty when there is none."""
    if isinstance(part.take("key"), Mapping):
        keys = part.part("key")
        assert keys is not None
        hashes = "-".join(f'{{{{ hash "{file}" }}}}' for file in keys.texts("files"))
        prefix = fixed.plain("the prefix", keys.text("prefix"), keys.line("prefix"))
        key = f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', prefix)}-{hashes}" if prefix else hashes
        keys.rest(f"the cache key of {fixed.called}", {})
    else:
        text = variables.expanded(part.text("key"), fixed.known)
        names = variables.unresolved(text)
        key = re.sub(r"\$\{?\w+\}?", "", text).strip("-_/ .") if names else text
        if names:
            advice = f"`${names[0]}` is left out of the key, so all branches share the cache"
            fixed.notes.add(part.line("key"), f"the cache key of {fixed.called}", advice)
        key = key or "default"
    flaw = cache_key_flaw(key)
    if flaw:
        fixed.notes.add(part.line("key"), f"a cache of {fixed.called}", f"its key {flaw}; left out")
        return ""
    return key
