"""Adversarial losses: families of discriminators, and what they and the codec learn from each other."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from codec.losses.discriminators import Discriminators, dac, multi_period, multi_resolution

MINIMUM_SAMPLES = 1025  # the longest window, 2048 samples, is reflected at the ends


class AdversaryError(ValueError):
    """The discriminators cannot work like that; the message says what to change."""


class Criterion(NamedTuple):
    """How scores become losses. real, fake: of the discriminator; fooled: of the codec."""

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    fooled: Callable[[Tensor], Tensor]


# Lim and Ye 2017 (arXiv 1705.02894); the codec's side is cut off as well, as in SoundStream and Vocos.
HINGE = Criterion(
    real=lambda scores: (1 - scores).clamp_min(0).mean(),
    fake=lambda scores: (1 + scores).clamp_min(0).mean(),
    fooled=lambda scores: (1 - scores).clamp_min(0).mean(),
)
# Mao et al. 2016 (arXiv 1611.04076)
LEAST_SQUARES = Criterion(
    real=lambda scores: (1 - scores).square().mean(),
    fake=lambda scores: scores.square().mean(),
    fooled=lambda scores: (1 - scores).square().mean(),
)


class Family(NamedTuple):
    """build: takes the width. match_scores: whether feature matching counts the scores among the
    features."""

    build: Callable[[float], Discriminators]
    criterion: Criterion
    match_scores: bool


FAMILIES: Mapping[str, Family] = {
    "multi_period": Family(multi_period, HINGE, True),
    "multi_resolution": Family(multi_resolution, HINGE, True),
    "dac": Family(dac, LEAST_SQUARES, False),
}


def feature_matching(real: list[list[Tensor]], fake: list[list[Tensor]]) -> Tensor:
    """Mean absolute difference of each feature map, summed over maps and averaged over discriminators."""
    losses = [
        torch.stack([(ours - theirs.detach()).abs().mean() for ours, theirs in zip(a, b, strict=True)]).sum()
        for a, b in zip(fake, real, strict=True)
    ]
    return torch.stack(losses).mean()


class Adversary(nn.Module):
    """The discriminators of some families.

    weights: of each family's adversarial loss, by its name in `FAMILIES`. features: of feature matching.
    A family of which both are zero is not built. All losses are averages over a family's discriminators.
    width: channels of the discriminators over those of the released ones.
    """

    def __init__(
        self, weights: Mapping[str, float], features: Mapping[str, float], width: float = 1.0
    ) -> None:
        super().__init__()
        for name in (*weights, *features):
            if name not in FAMILIES:
                raise AdversaryError(f"unknown discriminators {name!r}; known: {', '.join(FAMILIES)}")
        names = [name for name in FAMILIES if weights.get(name, 0) or features.get(name, 0)]
        self.weights = {name: weights.get(name, 0.0) for name in names}
        self.features = {name: features.get(name, 0.0) for name in names}
        self.families = nn.ModuleDict({name: FAMILIES[name].build(width) for name in names})

    def forward(self, reference: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """What the discriminators minimise, weighted, by family, for audio [batch, samples]. No gradient
        reaches the codec."""
        _check(reference, reconstruction)
        both = torch.cat((reference, reconstruction.detach()))
        losses = {}
        for name, discriminators in self.families.items():
            criterion = FAMILIES[name].criterion
            scores = [maps[-1].chunk(2) for maps in discriminators(both)]
            values = [criterion.real(real) + criterion.fake(fake) for real, fake in scores]
            # A family that only matches features learns all the same.
            losses[f"discriminator/{name}"] = (self.weights[name] or 1.0) * torch.stack(values).mean()
        return losses

    def generator_losses(self, reference: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """What the codec minimises, weighted, by name. Discriminators receive no gradient."""
        _check(reference, reconstruction)
        losses = {}
        with self.frozen(), parametrize.cached():
            for name, discriminators in self.families.items():
                family = FAMILIES[name]
                fake = discriminators(reconstruction)
                if self.weights[name]:
                    values = [family.criterion.fooled(maps[-1]) for maps in fake]
                    losses[f"adversarial/{name}"] = self.weights[name] * torch.stack(values).mean()
                if self.features[name]:
                    with torch.no_grad():
                        real = discriminators(reference)
                    if not family.match_scores:
                        real, fake = [maps[:-1] for maps in real], [maps[:-1] for maps in fake]
                    losses[f"features/{name}"] = self.features[name] * feature_matching(real, fake)
        return losses

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Within it, the discriminators' parameters receive no gradient, which saves computing it."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        for parameter in parameters:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in parameters:
                parameter.requires_grad_(True)


def _check(reference: Tensor, reconstruction: Tensor) -> None:
    if reference.shape != reconstruction.shape:
        raise AdversaryError(
            f"reference {list(reference.shape)} and reconstruction {list(reconstruction.shape)} differ"
        )
    if reference.shape[-1] < MINIMUM_SAMPLES:
        raise AdversaryError(
            f"{reference.shape[-1]} samples are too few for the discriminators: use crops of at least "
            f"{MINIMUM_SAMPLES}"
        )
