"""The quantizers that come with codecbench, by name; importing this module registers them."""

from quantizers.methods.binary import Binary
from quantizers.methods.factorized import FactorizedVQ
from quantizers.methods.fsp import FSP
from quantizers.methods.fsq import FSQ
from quantizers.methods.grouped import GroupedRVQ
from quantizers.methods.grouped_residual_fsq import GroupedResidualFSQ
from quantizers.methods.latent import Latent
from quantizers.methods.lattice import LatticeQuantizer
from quantizers.methods.learned_lattice import LearnedLatticeQuantizer
from quantizers.methods.lloyd_max import LloydMax
from quantizers.methods.multiscale_rvq import MultiscaleRVQ
from quantizers.methods.none import Identity
from quantizers.methods.q2d2 import Q2D2
from quantizers.methods.residual_fsq import ResidualFSQ
from quantizers.methods.rvq import RVQ
from quantizers.methods.simvq import SimVQ
from quantizers.methods.soundstream_rvq import SoundStreamRVQ
from quantizers.methods.trellis import TrellisQuantizer
from quantizers.methods.vq import VQ
from quantizers.registry import register

register(Identity, name="none")
register(VQ, name="vq")
register(RVQ, name="rvq")
register(FSQ, name="fsq")
for _grid in ("hex", "rect", "rhombic"):
    register(Q2D2, name=f"q2d2-{_grid}", preset={"grid": _grid})
_released = {"spacing": "released", "range": "released", "gradient": "released", "spread": 1.0}
for _grid in ("hex", "rect", "rhombic"):
    register(Q2D2, name=f"q2d2-{_grid}-released", preset={"grid": _grid, **_released})
register(SimVQ, name="simvq", preset={"stages": 1})
register(SimVQ, name="residual-simvq")
register(FactorizedVQ, name="vq-factorized", preset={"stages": 1})
register(FactorizedVQ, name="rvq-factorized")
register(GroupedRVQ, name="grouped-rvq")
register(ResidualFSQ, name="residual-fsq")
register(GroupedResidualFSQ, name="grouped-residual-fsq")
register(FSP, name="fsp")
register(Latent, name="latent")
register(Binary, name="lfq", preset={"stages": 1, "spherical": False})
register(Binary, name="bsq", preset={"stages": 1, "spherical": True}, paper="arXiv 2406.07548")
register(Binary, name="residual-lfq", preset={"spherical": False})
register(LatticeQuantizer, name="lattice")
register(SoundStreamRVQ, name="soundstream-rvq", preset={"codebook_size": 16, "codebook_dim": None})
register(TrellisQuantizer, name="trellis")
register(LloydMax, name="lloyd-max")
register(LearnedLatticeQuantizer, name="learned-lattice")
register(MultiscaleRVQ, name="multiscale-rvq")
