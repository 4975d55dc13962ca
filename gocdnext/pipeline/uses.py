"""References to plugins: `owner/name@v1` to a container image (spec-pipelines 3.2). Text only; nothing is looked up."""

from __future__ import annotations

_PUBLISHED_PREFIX = "gocdnext-plugin-"
"""The published images of the field are called `…/gocdnext-plugin-<name>`."""
_OURS = "gocdnext"


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


def lookup_name(image: str) -> str:
    """The name in the catalogue of a `uses` value or of the image it stands for (contract-runs 7.3)."""
    return _last_segment(image).removeprefix(_PUBLISHED_PREFIX)


def own_plugin(image: str) -> str:
    """The name of our plugin that an image stands for; empty when it is somebody else's (contract-cli-plugins 5.4).

    Ours are `gocdnext/<name>`, `…/gocdnext-plugin-<name>` and the short `<name>`. `acme/<name>` is acme's: what it does is
    not known here, so nothing may run in its place.
    """
    segment = _last_segment(image)
    if segment.startswith(_PUBLISHED_PREFIX):
        return segment.removeprefix(_PUBLISHED_PREFIX)
    owners = image.strip().split("@", 1)[0].split("/")[:-1]
    return segment if owners in ([], [_OURS]) else ""


def _last_segment(image: str) -> str:
    """The last part of a name, without digest and tag."""
    return image.strip().split("@", 1)[0].rsplit("/", 1)[-1].split(":", 1)[0]
