"""Every registered quantizer passes all checks, and so do options that run other code."""

import pytest

import quantizers
from quantizers.checks import conformance

VARIANTS = {
    "leech-cube": {"name": "lattice", "lattice": "Leech", "bits": 40.0},
    "leech-voronoi": {"name": "lattice", "lattice": "Leech", "bound": "voronoi", "bits": 38.0},
    "d4-shell": {"name": "lattice", "lattice": "D4", "bound": "shell", "bits": 18.0},
    "e8-shell": {"name": "lattice", "lattice": "E8", "bound": "shell", "bits": 18.0},
    "leech-shell": {"name": "lattice", "lattice": "Leech", "bound": "shell", "bits": 18.0},
    "fsq-noise": {"name": "fsq", "gradient": "noise", "activation": "sigmoid", "levels": (6, 5, 8)},
    "e8-noise": {"name": "lattice", "gradient": "noise", "activation": "sigmoid", "bits": 18.0},
    "vq-noise": {"name": "vq", "gradient": "noise", "heads": 2, "codebook_size": 32},
    "rvq-noise": {"name": "rvq", "gradient": "noise", "codebook_size": 32},
    "vq-diveq": {"name": "vq", "gradient": "diveq", "heads": 2, "codebook_size": 32},
    "rvq-diveq": {"name": "rvq", "gradient": "diveq", "codebook_size": 32, "codebook_dim": 8},
    "vq-sf-diveq": {"name": "vq", "gradient": "sf-diveq", "heads": 2, "codebook_size": 32},
    "rvq-sf-diveq": {"name": "rvq", "gradient": "sf-diveq", "codebook_size": 32},
    "residual-fsq-scale": {"name": "residual-fsq", "conditioning": "scale", "bits": 19.0, "stages": 3},
    "residual-fsq-norm": {"name": "residual-fsq", "conditioning": "layernorm", "bits": 19.0, "stages": 3},
    "grouped-fsq-norm": {"name": "grouped-residual-fsq", "conditioning": "layernorm", "bits": 19.0},
    "lloyd-max-random": {"name": "lloyd-max", "rotation": "random", "values": "gaussian", "bits": 19.0},
    "lloyd-max-wide": {"name": "lloyd-max", "rotation": "random", "levels": (2,) * 40},
    "rvq-dropout": {"name": "rvq", "dropout": 0.5, "codebook_size": 16, "stages": 3},
    "rvq-diveq-dropout": {
        "name": "rvq",
        "dropout": 1.0,
        "codebook_size": 16,
        "stages": 3,
        "gradient": "diveq",
    },
    "grouped-fsq-dropout": {"name": "grouped-residual-fsq", "dropout": 1.0, "bits": 19.0},
    "residual-fsq-dropout": {"name": "residual-fsq", "dropout": 1.0, "bits": 19.0, "stages": 3},
    "fsq-dropout": {"name": "fsq", "dropout": 1.0, "bits": 19.0},
    "hex-dropout": {"name": "q2d2-hex", "dropout": 1.0, "bits": 19.0},
    "a2-dropout": {"name": "lattice", "lattice": "A2", "dropout": 1.0, "bits": 19.0},
    "learned-d4": {"name": "learned-lattice", "dimension": 4, "begin": "D4", "bits": 26.0},
    "learned-3": {"name": "learned-lattice", "dimension": 3, "bits": 25.0, "dropout": 0.5},
    "multiscale-dropout": {
        "name": "multiscale-rvq",
        "strides": (3, 1, 2),
        "dropout": 1.0,
        "codebook_size": 16,
    },
    "multiscale-diveq": {
        "name": "multiscale-rvq",
        "gradient": "diveq",
        "codebook_size": 16,
        "codebook_dim": 8,
    },
    "multiscale-sf-diveq": {"name": "multiscale-rvq", "gradient": "sf-diveq", "codebook_size": 16},
    "trellis-channels": {"name": "trellis", "states": 256, "bits": 40.0, "channels": 20},
    "trellis-time": {"name": "trellis", "states": 4, "over": "time", "bits": 19.0},
}


@pytest.mark.parametrize("check", conformance.CHECKS)
@pytest.mark.parametrize("name", quantizers.available())
def test_conformance(name: str, check: str) -> None:
    run(conformance.builder(name), check)


@pytest.mark.slow
@pytest.mark.parametrize("check", conformance.CHECKS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_conformance_with_options(variant: str, check: str) -> None:
    if check == "compiled" and variant in ("leech-voronoi", "trellis-time"):
        pytest.skip("it passes, but takes minutes: the search is unrolled for every size or step")
    run(lambda: quantizers.create(dim=conformance.DIM, **VARIANTS[variant]), check)


def run(build: conformance.Build, check: str) -> None:
    try:
        conformance.CHECKS[check](build)
    except conformance.Skip as skip:
        pytest.skip(str(skip))
