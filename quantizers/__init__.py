"""Every bottleneck behind one contract.

`create("q2d2-hex", dim=512, bits=19)` builds one; `available()` names them; docs/adding_a_quantizer.md adds one.
"""

from .contract import Config, Quantized, Quantizer, QuantizerError, straight_through
from .fsq import FSQ
from .none import Identity
from .q2d2 import Q2D2
from .registry import available, create, entry, options, register, validate
from .rvq import RVQ
from .vq import VQ

register(Identity, name="none")
register(VQ, name="vq")
register(RVQ, name="rvq")
register(FSQ, name="fsq")
for _grid in ("hex", "rect", "rhombic"):
    register(Q2D2, name=f"q2d2-{_grid}", preset={"grid": _grid})
_released = {"spacing": "released", "range": "released", "gradient": "released"}
for _grid in ("hex", "rect", "rhombic"):
    register(Q2D2, name=f"q2d2-{_grid}-released", preset={"grid": _grid, **_released})

__all__ = [
    "Config",
    "Quantized",
    "Quantizer",
    "QuantizerError",
    "available",
    "create",
    "entry",
    "options",
    "register",
    "straight_through",
    "validate",
]
