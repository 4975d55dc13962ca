"""Ids that follow from what they name. Pure."""

from __future__ import annotations

from uuid import UUID, uuid5


def material_id(pipeline_id: UUID, fingerprint: str) -> UUID:
    """The id of a pipeline's material: a material belongs to one pipeline and is known there by its fingerprint
    (spec-pipelines 9.1), so its id can be told from a run's snapshot and survives removal and return."""
    return uuid5(pipeline_id, fingerprint)
