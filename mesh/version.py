"""The version of the installed package."""
from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def meshgate_version() -> str:
    try:
        return version("meshgate")
    except PackageNotFoundError:
        return "unknown (not installed)"
