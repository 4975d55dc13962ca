"""Every setting of the server: one table of `GOCDNEXT_*` variables, one frozen value made from it."""

from gocdnext.config.loading import load
from gocdnext.config.reader import ConfigError
from gocdnext.config.settings import (
    Address,
    GithubApp,
    Network,
    Quotas,
    Settings,
    SignInProvider,
    format_address,
    is_loopback,
)
from gocdnext.config.variables import VARIABLES, Variable

__all__ = [
    "VARIABLES",
    "Address",
    "ConfigError",
    "GithubApp",
    "Network",
    "Quotas",
    "Settings",
    "SignInProvider",
    "Variable",
    "format_address",
    "is_loopback",
    "load",
]
