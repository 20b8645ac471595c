"""The library `cel` without its command line, which the package loads first: 11 MiB of terminal toolkits."""

import sys
from types import ModuleType

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402  # after the line that spares us the toolkits

__all__ = ["cel"]
