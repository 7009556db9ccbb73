"""Parts that all pages of reports share: templates, script and style, and what a page may load."""

import base64
import hashlib
from importlib.resources import files


def beside(name: str) -> str:
    """The text of a file beside this module: a template, a script or a style sheet."""
    return (files("analysis.reports") / name).read_text(encoding="utf-8")


def policy(script: str, sheet: str) -> str:
    """A content security policy: this very script and style, local pictures and audio, nothing else."""
    hashes = [
        "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
        for text in (script, sheet)
    ]
    rules = {
        "default-src": "'none'",
        "script-src": hashes[0],
        "style-src": hashes[1],
        "img-src": "'self' file: data:",
        "media-src": "'self' file:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())
