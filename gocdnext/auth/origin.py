"""Whether a browser sent a request on behalf of our own pages, and where a browser may be sent on to. Pure.

A cookie travels with whatever page makes the browser send it. Writes that rest on a cookie, and sign-ins, therefore must
come from our own origin, or from no browser at all: browsers say where a request comes from, in headers that no page can
forge. Bearer tokens need none of this: no page can make a browser add one.
"""

from __future__ import annotations

from urllib.parse import urlsplit

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OURS = ("same-origin", "none")
"""`Sec-Fetch-Site` of our own pages, and of what people type or open themselves. Not `same-site`: other hosts of the same
domain share our cookie's SameSite but are other people's."""


def is_ours(*, fetch_site: str | None, origin: str | None, host: str, public_base: str) -> bool:
    """Whether a write with these headers may rest on a cookie.

    `Sec-Fetch-Site` decides where a browser sends it; else `Origin` must be this host or the public address. A request
    with neither comes from no browser: every browser says one of them with a cross-origin POST.
    """
    if fetch_site is not None:
        return fetch_site.lower() in _OURS
    if origin is None:
        return True
    scheme, place = _origin(origin)
    if not place:
        return False
    # The public address whole; this host without the scheme, since TLS may end at a proxy.
    return (scheme, place) == _origin(public_base) or place == host.lower()


def is_related(*, origin: str, host: str, public_base: str) -> bool:
    """Whether scripts of an origin may read answers that rest on a cookie: those of this host on any port, and of hosts
    above and below it, which have the same owner. Hosts beside it may be other people's: which part of a name is for sale
    cannot be told from the name."""
    scheme, place = _origin(origin)
    if scheme not in ("http", "https") or not place:
        return False
    asking = _name(place)
    return any(_kin(asking, _name(ours)) for ours in (host, _origin(public_base)[1]) if ours)


def local_target(said: str) -> str:
    """Where to go after a sign-in: a path of this server (contract-admin 2.3), `/` for anything else.

    Browsers read a backslash as a slash and drop tabs and line breaks: whatever has one is refused whole.
    """
    if len(said) > 2000 or not said.startswith("/") or said.startswith("//"):
        return "/"
    if "\\" in said or not said.isprintable() or " " in said:
        return "/"
    try:
        parts = urlsplit(said)
    except ValueError:
        return "/"
    return "/" if parts.scheme or parts.netloc else said


def _name(place: str) -> str:
    """A host without its port; all names of this machine are one."""
    name = place.lower().rpartition("]")[0] + "]" if place.startswith("[") else place.lower().partition(":")[0]
    return "localhost" if name in ("127.0.0.1", "[::1]") else name.removesuffix(".")


def _kin(one: str, other: str) -> bool:
    if not one or not other:
        return False
    short, long = sorted((one, other), key=len)
    # A name of one word is above everything of its country; an address is above nothing.
    return one == other or ("." in short and not short.replace(".", "").isdigit() and long.endswith(f".{short}"))


def _origin(url: str) -> tuple[str, str]:
    """Scheme and host with port; both empty for what is no address."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme.lower(), parts.netloc.lower()
