"""What can be wrong with a backup, as sentences for whoever holds it."""

from __future__ import annotations

from gocdnext.errors import DomainError


class ArchiveError(DomainError):
    """The archive cannot be used: cut off, damaged, somebody else's, or of a later program. Nothing was changed."""


class PassphraseError(DomainError):
    """The sealed keys do not open with this passphrase, or there is none."""


class NotEmptyError(DomainError):
    """What is to be restored into is in use."""


class DifferentError(DomainError):
    """What was restored is not what was backed up."""
