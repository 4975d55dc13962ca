"""What people write about accounts: e-mails, names, roles. One place for their limits. Pure; raises InvalidError."""

from __future__ import annotations

import re

from gocdnext.errors import InvalidError

LONGEST_EMAIL = 320
LONGEST_NAME = 200
LONGEST_DESCRIPTION = 2000
ROLES = ("admin", "maintainer", "viewer")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SPACE_OR_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_GROUP = re.compile(r"[A-Za-z0-9._-]+")


def is_one_line(text: str) -> bool:
    """Whether a text has no line breaks and no control characters."""
    return _CONTROL.search(text) is None


def email(text: str) -> str:
    """An e-mail as it is kept: trimmed, lower-case. It may be any word without spaces: nobody sends mail to it."""
    found = text.strip().lower()
    if not found:
        raise InvalidError("email is required")
    if len(found) > LONGEST_EMAIL or _SPACE_OR_CONTROL.search(found):
        raise InvalidError(f"email must be one word of at most {LONGEST_EMAIL} characters")
    return found


def name(text: str, *, required: bool = True) -> str:
    """A name, trimmed. No line breaks and no control characters: it is shown in logs, headers and terminals."""
    found = text.strip()
    if required and not found:
        raise InvalidError("name is required")
    if len(found) > LONGEST_NAME or _CONTROL.search(found):
        raise InvalidError(f"name must be at most {LONGEST_NAME} characters, without control characters")
    return found


def description(text: str) -> str:
    """A description, trimmed; empty is fine."""
    found = text.strip()
    if len(found) > LONGEST_DESCRIPTION or _CONTROL.search(found):
        raise InvalidError(f"description must be one line of at most {LONGEST_DESCRIPTION} characters")
    return found


def group_name(text: str) -> str:
    """The name of a group (contract-admin 7.2)."""
    found = name(text)
    if not _GROUP.fullmatch(found):
        raise InvalidError("name may only contain letters, digits, dash, underscore, dot")
    return found


def role(text: str, message: str) -> str:
    """One of ROLES, in any case; anything else is `message`."""
    found = text.strip().lower()
    if found not in ROLES:
        raise InvalidError(message)
    return found
