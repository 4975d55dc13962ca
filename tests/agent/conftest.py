"""Fixtures of the agent's tests."""

from tests.agent.containers import podman, podman_service

__all__ = ["podman", "podman_service"]
