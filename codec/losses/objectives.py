"""Training objectives: every term of the loss with its weight, and named sets of weights."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from codec.losses.adversarial import FAMILIES, MINIMUM_SAMPLES, Adversary
from codec.losses.log_mel import LogMelLoss
from codec.losses.spectral import Scale, SpectralLoss, SpectralLossConfig
from codec.model import CodecOutput
from quantizers.suggestions import did_you_mean

MOST_WEIGHT = 1e9
MOST_WINDOW = 2**16  # samples
MOST_BANDS = 1024
MOST_SCALES = 16
MOST_WIDTH = 16
MOST_STEP = 10**9


class ObjectiveError(ValueError):
    """An objective was asked for something that it cannot be; the message says what to change."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Weights; a term of weight 0 is not computed.

    mel, complex: of the two terms of `losses.SpectralLoss`, multi-scale mel and complex spectrum.
    log_mel: of `LogMelLoss` at `log_mel_scales`, each a window, a hop (samples) and a number of bands.
    quantizer: of the quantizer's own loss.
    multi_period, multi_resolution, dac: of the adversarial losses. Each is an average over a family's
    discriminators, and so are the feature matching losses beside it, *_features.
    discriminator_start: step from which the adversarial terms count and the discriminators train.
    discriminator_width: channels of the discriminators over those of the released ones.

    Weights are at most `MOST_WEIGHT`, windows `MOST_WINDOW` samples, widths `MOST_WIDTH`.
    """

    mel: float = 0.0
    complex: float = 0.0
    log_mel: float = 0.0
    log_mel_scales: tuple[Scale, ...] = (Scale(1024, 256, 100),)
    quantizer: float = 1.0
    multi_period: float = 0.0
    multi_period_features: float = 0.0
    multi_resolution: float = 0.0
    multi_resolution_features: float = 0.0
    dac: float = 0.0
    dac_features: float = 0.0
    discriminator_start: int = 0
    discriminator_width: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is float and not _is_weight(value):
                raise ObjectiveError(
                    f"{field.name} must be a finite number from 0 to {MOST_WEIGHT:g}, not {value!r}"
                )
        if type(self.discriminator_start) is not int or not 0 <= self.discriminator_start <= MOST_STEP:
            raise ObjectiveError(
                f"discriminator_start must be a step from 0 to {MOST_STEP:,}, "
                f"not {self.discriminator_start!r}"
            )
        if not 0 < self.discriminator_width <= MOST_WIDTH:
            raise ObjectiveError(f"discriminator_width must be above 0, at most {MOST_WIDTH}")
        try:
            scales = tuple(Scale(*scale) for scale in self.log_mel_scales)
            valid = 0 < len(scales) <= MOST_SCALES and all(
                type(n) is int and 0 < n <= most
                for scale in scales
                for n, most in zip(scale, (MOST_WINDOW, MOST_WINDOW, MOST_BANDS), strict=True)
            )
        except TypeError:
            valid = False
        if not valid:
            raise ObjectiveError(
                f"log_mel_scales must be 1 to {MOST_SCALES} triples of window, hop (samples, at most "
                f"{MOST_WINDOW:,}) and bands (at most {MOST_BANDS:,}), not {self.log_mel_scales!r}"
            )
        object.__setattr__(self, "log_mel_scales", scales)
        if not (self.mel or self.complex or self.log_mel):
            raise ObjectiveError(
                "give mel, complex or log_mel a weight above 0: the other losses do not compare spectra"
            )

    @property
    def adversarial(self) -> bool:
        """Whether any discriminator takes part."""
        return any(getattr(self, name) or getattr(self, f"{name}_features") for name in FAMILIES)

    @property
    def least_samples(self) -> int:
        """Fewest samples of a crop: more than half of the longest window, whose ends are reflected."""
        scales = [*(SpectralLossConfig().scales if self.mel or self.complex else ())]
        scales += self.log_mel_scales if self.log_mel else ()
        least = max(scale.window // 2 + 1 for scale in scales)
        return max(least, MINIMUM_SAMPLES) if self.adversarial else least


def _is_weight(value: object) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and 0 <= value <= MOST_WEIGHT
    )


PRESETS: Mapping[str, Objective] = {
    # No adversary: fast studies.
    "spectral": Objective(mel=1.0, complex=2.0),
    # Siuzdak 2023 (arXiv 2306.00814), its EnCodec variant.
    "vocos": Objective(
        log_mel=45.0,
        multi_period=1.0,
        multi_period_features=1.0,
        multi_resolution=1.0,
        multi_resolution_features=1.0,
    ),
    # Ji et al. 2024 (arXiv 2408.16532), as released. It sums over DAC's 8 discriminators, hence the 8. Its
    # 1000 goes with a commitment of 1 within the quantizer.
    "wavtokenizer": Objective(
        log_mel=45.0,
        quantizer=1000.0,
        multi_period=1.0,
        multi_period_features=1.0,
        multi_resolution=1.0,
        multi_resolution_features=1.0,
        dac=8.0,
        dac_features=8.0,
    ),
}


def get(name: str, overrides: Mapping[str, Any] | None = None) -> Objective:
    """The preset `name`, with some weights changed. Raises ObjectiveError for unknown names or values."""
    if name not in PRESETS:
        raise ObjectiveError(f"unknown objective {name!r}; {_hint(name, list(PRESETS))}")
    known = [field.name for field in dataclasses.fields(Objective)]
    for key in overrides or {}:
        if key not in known:
            raise ObjectiveError(f"an objective has no weight {key!r}; {_hint(key, known)}")
    return dataclasses.replace(PRESETS[name], **(overrides or {}))


class Losses(nn.Module):
    """The terms of an objective at `sample_rate` Hz. Only `adversary` has parameters."""

    def __init__(self, objective: Objective, sample_rate: int) -> None:
        super().__init__()
        self.objective = objective
        self.spectral: SpectralLoss | None = None
        if objective.mel or objective.complex:
            weights = SpectralLossConfig(mel_weight=objective.mel, complex_weight=objective.complex)
            self.spectral = SpectralLoss(weights, sample_rate)
        scales = objective.log_mel_scales
        self.log_mel = LogMelLoss(sample_rate, scales) if objective.log_mel else None
        self.adversary: Adversary | None = None
        if objective.adversarial:
            self.adversary = Adversary(
                {name: getattr(objective, name) for name in FAMILIES},
                {name: getattr(objective, f"{name}_features") for name in FAMILIES},
                objective.discriminator_width,
            )

    def adversary_at(self, step: int) -> Adversary | None:
        """The discriminators, once they take part."""
        return self.adversary if step >= self.objective.discriminator_start else None

    def reconstruction(self, audio: Tensor, reference: Tensor) -> dict[str, Tensor]:
        """Weighted terms, by name, that compare audio [batch, samples] with its reference. In float32
        whatever autocast says."""
        terms: dict[str, Tensor] = {}
        with torch.autocast(device_type=audio.device.type, enabled=False):
            audio = audio.float()
            if self.spectral is not None:
                terms |= self.spectral(audio, reference)
            if self.log_mel is not None:
                terms["log_mel"] = self.objective.log_mel * self.log_mel(audio, reference)
        return terms

    def generator(self, output: CodecOutput, reference: Tensor, step: int) -> dict[str, Tensor]:
        """Weighted terms, by name, whose sum the codec minimises at `step`; reference [batch, samples]."""
        terms = self.reconstruction(output.audio, reference)
        if self.objective.quantizer:
            terms["quantizer"] = self.objective.quantizer * output.quantized.loss
        if (adversary := self.adversary_at(step)) is not None:
            terms |= adversary.generator_losses(reference, output.audio)
        return terms

    def discriminator(self, audio: Tensor, reference: Tensor, step: int) -> dict[str, Tensor]:
        """Weighted terms whose sum the discriminators minimise at `step`; empty before they start."""
        adversary = self.adversary_at(step)
        return {} if adversary is None else adversary(reference, audio)


def _hint(given: str, known: list[str]) -> str:
    return did_you_mean(given, known) + f"known: {', '.join(known)}"
