"""The state of a training: all that changes while a codec is trained, which is what a checkpoint holds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from codec.losses.objectives import Losses
from codec.model import Codec
from experiments.common import tensor_files
from experiments.common.tensor_files import DamagedFile
from experiments.studies.sections import Train
from experiments.training.optimizers import codec_optimizers, discriminator_optimizer
from experiments.training.precision import autocast_dtype, resolved
from experiments.training.weight_average import WeightAverage
from quantizers.parts.codebook import EMACodebooks

FIRST_SCALE = 2.0**10  # of the loss in fp16: it doubles by itself, and each halving costs a batch

# Counters that a checkpoint holds beside tensors, by their names in the file, with their types.
_COUNTERS: dict[str, tuple[type, ...]] = {
    "step": (int,),
    "skipped": (int,),
    "skipped_in_a_row": (int,),
    "seconds": (float, int),
    "collapsed": (bool,),
    "saturated": (bool,),
    "run_id": (str,),
    "precision": (str,),
    "starting_weights": (str,),
    "data": (dict,),
}
_FOUND_PARTS = "found_parts"  # beside them, where there is one


@dataclass(kw_only=True, eq=False)
class TrainingState:
    """Modules, optimizers and counters of a training."""

    codec: Codec
    losses: Losses  # the discriminators in it are trained, too
    average: WeightAverage | None  # of the codec's weights, if asked for
    codec_optimizers: list[Optimizer]
    discriminator_optimizers: list[Optimizer]
    scaler: GradScaler | None  # of fp16 gradients
    step: int = 0  # finished steps
    skipped: int = 0  # batches that were not finite and changed nothing
    skipped_in_a_row: int = 0  # up to this step
    seconds: float = 0.0  # spent over all sittings
    collapsed: bool = False  # whether a codebook had collapsed at the last validation
    saturated: bool = False  # whether a channel was saturated then
    run_id: str = ""  # of MLflow
    precision: str = ""  # of the network's blocks, `fp32 then bf16` where sittings differed
    starting_weights: str = ""  # `backbone_digest` before the first step of the first sitting
    found_parts: int = 0  # of a step, to which `train.accumulate: auto` has come; 0 where a number is given
    data: dict[str, Any] = field(default_factory=dict)  # position in streamed data, `cursor` of the crops

    def parts(self, config: Train) -> int:
        """In how many parts a step is made."""
        return self.found_parts if config.accumulate == "auto" else config.accumulate

    @property
    def modules(self) -> dict[str, nn.Module]:
        """Modules with a state, by their names in a checkpoint."""
        modules: dict[str, nn.Module | None] = {
            "model": self.codec,
            "adversary": self.losses.adversary,
            "average": self.average,
        }
        return {name: module for name, module in modules.items() if module is not None}

    @property
    def optimizers(self) -> list[Optimizer]:
        """All optimizers, in their order in a checkpoint."""
        return [*self.codec_optimizers, *self.discriminator_optimizers]

    @property
    def codebooks(self) -> list[EMACodebooks]:
        """Codebooks of the codec that are moving averages."""
        return [part for part in self.codec.modules() if isinstance(part, EMACodebooks)]

    @property
    def evaluated_codec(self) -> Codec:
        """The codec that is validated and kept: the average of weights if there is one."""
        if self.average is None:
            return self.codec
        assert isinstance(self.average.model, Codec)
        return self.average.model

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the modules and optimizers, by its name in a checkpoint."""
        tensors: dict[str, Tensor] = {}
        for part, module in self.modules.items():
            tensors |= {f"{part}/{name}": value for name, value in module.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                for name, value in values.items():
                    tensors[f"optimizer/{number}/{index}/{name}"] = torch.as_tensor(value)
        return tensors

    def metadata(self) -> dict[str, str]:
        """Counters and the scale of fp16, as JSON by their names in a checkpoint."""
        names = [*_COUNTERS, *([_FOUND_PARTS] if self.found_parts else [])]
        metadata = {"progress": json.dumps({name: getattr(self, name) for name in names})}
        if self.scaler is not None:
            metadata["scaler"] = json.dumps(self.scaler.state_dict())
        return metadata

    def check(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """See that `load` can take these from a checkpoint. Raises DamagedFile."""
        for name, value in read_json(metadata, "progress").items():
            if type(value) not in {**_COUNTERS, _FOUND_PARTS: (int,)}.get(name, ()):
                raise DamagedFile(f"its {name} is {value!r}")
        if self.scaler is not None and "scaler" in metadata:
            read_json(metadata, "scaler")
        for part, module in self.modules.items():
            check_fit(module, below(tensors, f"{part}/"))
        for number, optimizer in enumerate(self.optimizers):
            shapes = [tuple(p.shape) for group in optimizer.param_groups for p in group["params"]]
            for (index, name), value in _of_optimizer(tensors, number).items():
                if index >= len(shapes) or tuple(value.shape) not in ((), shapes[index]):
                    raise DamagedFile(f"it has no place for {name} of parameter {index}")

    def load(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Take over what `tensors` and `metadata` of a checkpoint hold, which pass `check`."""
        for part, module in self.modules.items():
            module.load_state_dict(below(tensors, f"{part}/"))
        for number, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for (index, name), value in _of_optimizer(tensors, number).items():
                state.setdefault(index, {})[name] = value
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        if self.scaler is not None and "scaler" in metadata:
            self.scaler.load_state_dict(read_json(metadata, "scaler"))
        for name, value in read_json(metadata, "progress").items():
            setattr(self, name, value)


def initial_state(codec: Codec, config: Train, *, seed: int, device: torch.device) -> TrainingState:
    """The state before the first step, on `device`.

    The first weights of the discriminators depend on `seed` alone, whatever the quantizer has drawn.
    """
    precision = resolved(config.precision, device)
    dtype = autocast_dtype(precision)
    codec.to(device).train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        losses = Losses(config.objective.objective(), codec.sample_rate).to(device)
    average = WeightAverage(codec, config.ema_decay) if config.ema_decay else None
    adversary = losses.adversary
    return TrainingState(
        codec=codec,
        losses=losses,
        average=average,
        codec_optimizers=codec_optimizers(codec, config, matrix_dtype=dtype or torch.float32),
        discriminator_optimizers=(
            [discriminator_optimizer(adversary, config)] if adversary is not None else []
        ),
        scaler=new_scaler(device) if dtype is torch.float16 else None,
        precision=precision,
        starting_weights=backbone_digest(codec),
        found_parts=1 if config.accumulate == "auto" else 0,
    )


def backbone_digest(codec: Codec) -> str:
    """16 hexadecimal digits that stand for the weights of encoder and decoder.

    The same configuration need not give the same weights: a warm start that is trained on another kind of
    processor ends elsewhere. Runs can be compared in pairs only if they began from the same weights.
    """
    parts = {"encoder": codec.encoder, "decoder": codec.decoder}
    tensors = {
        f"{part}.{name}": value.cpu()
        for part, module in parts.items()
        for name, value in module.state_dict().items()
    }
    return tensor_files.digest(tensors, {}).removeprefix("sha256:")[:16]


def new_scaler(device: torch.device) -> GradScaler:
    """The scaler of fp16 gradients before the first step."""
    return torch.amp.GradScaler(device.type, init_scale=FIRST_SCALE)


def random_state(device: torch.device) -> dict[str, Tensor]:
    """The state of this process's random generators."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Bring this process's random generators to `state`; those that it lacks stay as they are."""
    if "cpu" in state:
        torch.set_rng_state(state["cpu"])
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)


def below(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors whose names begin with `prefix`, which is cut off."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}


def check_fit(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """See that `tensors` are the state of `module`, before any of it is loaded. Raises DamagedFile."""
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in wanted.keys() | given.keys():
        if wanted.get(name) != given.get(name):
            raise DamagedFile(
                f"the shape of {name} is {given.get(name, 'missing')}, not {wanted.get(name, 'missing')}"
            )


def _of_optimizer(tensors: Mapping[str, Tensor], number: int) -> dict[tuple[int, str], Tensor]:
    """State of an optimizer by index of the parameter and name. Raises DamagedFile."""
    state = {}
    for key, value in below(tensors, f"optimizer/{number}/").items():
        index, _, name = key.partition("/")
        if not index.isdecimal():
            raise DamagedFile(f"it has no parameter {index!r}")
        state[int(index), name] = value
    return state


def read_json(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """A dictionary of the metadata. Raises DamagedFile."""
    try:
        values = json.loads(metadata.get(key, ""))
    except ValueError:
        values = None
    if not isinstance(values, dict):
        raise DamagedFile(f"its {key} cannot be read")
    return values
