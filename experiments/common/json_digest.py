"""Identities: short hashes of configurations."""

import hashlib
import json
from typing import Any


def identity(value: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of `value` as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
