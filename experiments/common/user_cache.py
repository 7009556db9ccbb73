"""The user's cache: the folder of what can be made again."""

import os
import sys
from pathlib import Path


def cache_directory() -> Path:
    """$CODECBENCH_CACHE, else `codecbench` in the user's cache directory of this system."""
    if chosen := os.environ.get("CODECBENCH_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "codecbench"
