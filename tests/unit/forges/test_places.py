"""Where a repository is, and where its host's API is."""

from __future__ import annotations

import pytest

from gocdnext.forges.places import place_of


@pytest.mark.parametrize(
    ("provider", "url", "api", "below"),
    [
        ("github", "https://github.com/acme/shop.git", "https://api.github.com", "/repos/acme/shop"),
        ("github", "git@github.com:acme/shop.git", "https://api.github.com", "/repos/acme/shop"),
        ("github", "https://u:t@ghe.acme.example/acme/shop", "https://ghe.acme.example/api/v3", "/repos/acme/shop"),
        (
            "gitlab",
            "https://git.acme.example:8443/a/b/c",
            "https://git.acme.example:8443/api/v4",
            "/projects/a%2Fb%2Fc",
        ),
        ("gitlab", "ssh://git@git.acme.example:2222/a/b.git", "https://git.acme.example/api/v4", "/projects/a%2Fb"),
        ("gitlab", "http://10.0.0.1:3000/a/b", "http://10.0.0.1:3000/api/v4", "/projects/a%2Fb"),
        ("bitbucket", "https://bitbucket.org/a/b", "https://api.bitbucket.org/2.0", "/repositories/a/b"),
        ("github", "https://github.com/acme/a%2Fb", "https://api.github.com", "/repos/acme/a%252Fb"),
    ],
)
def test_places(provider: str, url: str, api: str, below: str) -> None:
    place = place_of(provider, url)
    assert place is not None
    assert (place.api, place.below) == (api, below)


@pytest.mark.parametrize(
    ("provider", "url"),
    [
        ("manual", "https://github.com/acme/shop"),
        ("github", "https://github.com/acme"),
        ("github", "https://github.com/acme/shop/more"),
        ("github", "https://github.com/../shop"),
        ("github", "https://github.com//shop"),
        ("github", "file:///srv/acme/shop"),
        ("gitlab", "/srv/acme/shop"),
        ("gitlab", "https://host:99999/a/b"),
        ("gitlab", "https://ho st/a/b"),
        ("gitlab", ""),
    ],
)
def test_what_no_provider_has(provider: str, url: str) -> None:
    assert place_of(provider, url) is None
