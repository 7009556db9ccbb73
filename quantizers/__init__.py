"""Every bottleneck of codecbench behind one contract.

`create("q2d2-hex", dim=512, bits=19)` builds one; `available()` names them; docs/adding_a_quantizer.md
adds one. `methods` has one quantization method a module, `parts` what several of them share, `geometry` grids
and lattices, `checks` the conformance suite and known sources.

The names below are imported when they are first used, since they need torch, which takes seconds.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantizers.contract import Config, Quantized, Quantizer
    from quantizers.option_checks import NonFiniteError, QuantizerError
    from quantizers.parts.straight_through import straight_through
    from quantizers.registry import (
        available,
        build,
        create,
        entry,
        fit_options,
        needs_features,
        options,
        planar_views,
        planned_options,
        register,
        validate,
    )

_HOMES = {
    "Config": "contract",
    "NonFiniteError": "option_checks",
    "Quantized": "contract",
    "Quantizer": "contract",
    "QuantizerError": "option_checks",
    "available": "registry",
    "build": "registry",
    "create": "registry",
    "entry": "registry",
    "fit_options": "registry",
    "needs_features": "registry",
    "options": "registry",
    "planar_views": "registry",
    "planned_options": "registry",
    "register": "registry",
    "straight_through": "parts.straight_through",
    "validate": "registry",
}

__all__ = [
    "Config",
    "NonFiniteError",
    "Quantized",
    "Quantizer",
    "QuantizerError",
    "available",
    "build",
    "create",
    "entry",
    "fit_options",
    "needs_features",
    "options",
    "planar_views",
    "planned_options",
    "register",
    "straight_through",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"quantizers.{_HOMES[name]}"), name)
