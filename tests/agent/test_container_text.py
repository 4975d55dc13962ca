"""The parts of the container engine that only turn one text into another."""

from __future__ import annotations

import random

import pytest

from gocdnext.agent.config import AgentSettings, ConfigError, container_settings
from gocdnext.agent.engines.container import prefix
from gocdnext.agent.engines.docker_api import Demultiplexer
from gocdnext.agent.engines.docker_images import DOCKER_HUB, registry
from gocdnext.pipeline.quantities import QuantityError, cores, size


def test_demultiplexer_at_every_border() -> None:
    parts = [(1, b"one"), (2, b""), (2, b"two\n"), (1, b"x" * 300)]
    raw = b"".join(bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data for stream, data in parts)
    chance = random.Random(1)
    for _ in range(200):
        borders = sorted(chance.sample(range(len(raw)), 12))
        chunks = [raw[start:end] for start, end in zip([0, *borders], [*borders, len(raw)], strict=True)]
        demultiplexer = Demultiplexer()
        found = [item for chunk in chunks for item in demultiplexer.feed(chunk)]
        assert b"".join(data for stream, data in found if stream == 1) == b"one" + b"x" * 300
        assert b"".join(data for stream, data in found if stream == 2) == b"two\n"


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("512Mi", 2**29), ("1.5Gi", 3 * 2**29), ("2G", 2 * 10**9), ("1e3", 1000), ("128974848", 128974848), ("1k", 1000)],
)
def test_memory(text: str, bytes_: int) -> None:
    assert size(text) == bytes_


def test_cpu() -> None:
    assert (cores("500m"), cores("1.5"), cores("2")) == (0.5, 1.5, 2.0)


@pytest.mark.parametrize("text", ["", "lots", "1Xi", "-1", "0", "1 Mi", "1e", "9" * 30, "1EiB", "٣"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(QuantityError, match="write for example"):
        size(text)


@pytest.mark.parametrize(
    ("image", "host"),
    [
        ("alpine", DOCKER_HUB),
        ("library/alpine:3", DOCKER_HUB),
        ("docker.io/library/alpine", DOCKER_HUB),
        ("ghcr.io/a/b@sha256:00", "ghcr.io"),
        ("localhost/a", "localhost"),
        ("host:5000/a:1", "host:5000"),
    ],
)
def test_registry_of_an_image(image: str, host: str) -> None:
    assert registry(image) == host


def test_names() -> None:
    assert prefix("AABBCCDD-eeff-0011-2233-445566778899") == "gocdnext-aabbccddeeff"
    assert prefix("job-1") != prefix("job-2")


def test_settings() -> None:
    base = {"GOCDNEXT_SERVER_ADDR": "h:1", "GOCDNEXT_AGENT_NAME": "n", "GOCDNEXT_AGENT_TOKEN": "t"}
    plain = AgentSettings.from_env(base)
    assert plain.docker_sockets == ("/var/run/docker.sock", "/run/podman/podman.sock")
    assert (plain.docker_pull_policy, plain.docker_strict, plain.docker_default_image) == ("missing", False, "")
    said = AgentSettings.from_env(
        base
        | {
            "GOCDNEXT_DOCKER_SOCKET": "unix:///run/x.sock",
            "GOCDNEXT_DOCKER_PULL_POLICY": "always",
            "GOCDNEXT_DOCKER_STRICT": "true",
            "GOCDNEXT_DOCKER_DEFAULT_IMAGE": "alpine",
        }
    )
    assert said.docker_sockets == ("/run/x.sock",)
    assert (said.docker_pull_policy, said.docker_strict, said.docker_default_image) == ("always", True, "alpine")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GOCDNEXT_DOCKER_SOCKET", "tcp://x:2375"),
        ("GOCDNEXT_DOCKER_PULL_POLICY", "sometimes"),
        ("GOCDNEXT_DOCKER_STRICT", "maybe"),
        ("GOCDNEXT_DOCKER_EXTRA_ARGS", "--privileged"),
    ],
)
def test_wrong_settings_are_named(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        container_settings({name: value})
