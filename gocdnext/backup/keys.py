"""Which keys of a server a backup can have in it: those of its state directory, or those that its settings say instead."""

from __future__ import annotations

from gocdnext.config import Settings
from gocdnext.db.statedir import read_key_file
from gocdnext.secrets import keyfiles
from gocdnext.secrets.sealing import key_id

SECRETS, LINKS = "secrets", "artifact-links"
OTHERS = ("agent-registration", "operator-token")


def of(settings: Settings) -> dict[str, bytes]:
    """By their names in a state directory; those that seal secrets first. Raises StateDirectoryError."""
    sealing = settings.secret_keys or keyfiles.read(settings.state_dir)
    found = {SECRETS if not number else f"{SECRETS}-{key_id(key)}": key for number, key in enumerate(sealing)}
    for name in (LINKS, *OTHERS):
        key = read_key_file(settings.state_dir, name)
        if key is not None:
            found[name] = key
    return found
