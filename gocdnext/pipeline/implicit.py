"""The git material that a pipeline gets from the source its project is bound to (spec-pipelines 9.3)."""

from __future__ import annotations

import msgspec

from gocdnext.pipeline.fingerprints import git_fingerprint, normal_git_url
from gocdnext.pipeline.materials import DEFAULT_BRANCH
from gocdnext.pipeline.model import GitMaterial, Pipeline


def with_implicit_material(pipeline: Pipeline, source_url: str, default_branch: str) -> Pipeline:
    """The pipeline with one implicit git material per branch of `when.branch`, or one for the default branch.

    A pipeline with a git material of its own for the same repository stays as it is; so does every pipeline of a
    project without a source (empty `source_url`). The default branch of an empty `default_branch` is `main`.
    """
    if not source_url.strip():
        return pipeline
    source = normal_git_url(source_url)
    own = [material for material in pipeline.materials if isinstance(material, GitMaterial) and not material.implicit]
    if any(normal_git_url(material.url) == source for material in own):
        return pipeline
    branches = pipeline.when.branches or (default_branch or DEFAULT_BRANCH,)
    implicit = tuple(
        GitMaterial(
            fingerprint=git_fingerprint(source_url, branch),
            url=source_url,
            branch=branch,
            events=pipeline.when.events or ("push",),
            paths=pipeline.when.paths,
            implicit=True,
        )
        for branch in dict.fromkeys(branches)
    )
    kept = tuple(m for m in pipeline.materials if not (isinstance(m, GitMaterial) and m.implicit))
    return msgspec.structs.replace(pipeline, materials=kept + implicit)
