"""Whom a provider vouches for, as far as it is believed: texts cut and cleaned, the domain of the e-mail checked. Pure.

A provider's users write some of this themselves. Accounts are told apart by provider and subject, never by e-mail.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from gocdnext.auth import words
from gocdnext.auth.providers.errors import incomplete
from gocdnext.errors import InvalidError

LONGEST_SUBJECT = 255
LONGEST_AVATAR = 2000
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")
_CAPITALS = {letter: letter + 32 for letter in range(ord("A"), ord("Z") + 1)}


@dataclass(frozen=True, slots=True)
class Profile:
    """One person at a provider. `issuer` is who says so: the provider's own name for itself."""

    issuer: str
    subject: str
    email: str
    name: str
    avatar_url: str


def profile(*, issuer: str, subject: object, email: object, names: Collection[object], avatar: object) -> Profile:
    """What is kept of what a provider says; the first of `names` that says something counts, else the e-mail.

    Raises RejectedError when there is no subject or no e-mail that could be one.
    """
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT or _UNPRINTABLE.search(subject):
        raise incomplete("the subject is missing, too long or no text")
    address = _email(email)
    name = next((found for each in names if (found := _name(each))), address[: words.LONGEST_NAME])
    return Profile(issuer, subject, address, name, _avatar(avatar))


def fold(email: str) -> str:
    """An e-mail for comparing. Only ASCII letters lose their case: the lower case of the Kelvin sign is a `k`, and whoever
    owns that other domain is somebody else."""
    return email.strip().translate(_CAPITALS)


def is_allowed(email: str, domains: Collection[str]) -> bool:
    """Whether an e-mail is of one of the domains (folded, without `@`), exactly: neither of one below nor of one that ends
    alike. No domains = everybody."""
    return not domains or fold(email).rpartition("@")[2] in domains


def _email(said: object) -> str:
    if not isinstance(said, str):
        raise incomplete("the e-mail is missing")
    found = said.strip()
    try:
        words.email(found)
    except InvalidError:
        raise incomplete("the e-mail is empty, too long, or no single word") from None
    local, at, domain = found.rpartition("@")
    if not (local and at and domain):
        raise incomplete("the e-mail has no domain")
    return found


def _name(said: object) -> str:
    return " ".join(_UNPRINTABLE.sub(" ", said).split())[: words.LONGEST_NAME] if isinstance(said, str) else ""


def _avatar(said: object) -> str:
    """The address of a picture; empty for anything that is not plainly one, such as a script."""
    if not isinstance(said, str) or len(said) > LONGEST_AVATAR or not said.isprintable() or set(said) & set(" \"'<>\\"):
        return ""
    try:
        parts = urlsplit(said)
    except ValueError:
        return ""
    return said if parts.scheme in ("https", "http") and parts.netloc else ""
