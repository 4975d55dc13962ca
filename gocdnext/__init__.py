"""gocdnext: a CI/CD control plane in one file."""

__version__ = "0.1.0"
