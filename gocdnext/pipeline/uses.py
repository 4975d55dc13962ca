"""References to plugins: `owner/name@v1` to a container image (spec-pipelines 3.2). Text only; nothing is looked up."""

from __future__ import annotations


def resolve_uses(reference: str) -> tuple[str, str]:
    """The image of a reference, and what is wrong with the reference as half a sentence (empty when nothing is).

    Outer blanks do not count; `base@vN` is the tag `vN`, `base@sha256:…` stays a digest.
    """
    text = reference.strip()
    if any(character.isspace() for character in text):
        return text, "contains a blank or a line break"
    base, separator, version = text.partition("@")
    if not base:
        return text, "has no image"
    if not separator:
        return text, ""
    if not version or version == "sha256:":
        return text, "has no version after the `@`"
    return (text, "") if version.startswith("sha256:") else (f"{base}:{version}", "")
