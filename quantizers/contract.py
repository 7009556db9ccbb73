"""What every bottleneck is: features in, features and codes out, and a rate that follows from the module
itself."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from quantizers.geometry.views import PlanarView
from quantizers.option_checks import NonFiniteError, QuantizerError, check_count
from quantizers.rate_estimate import Cells, entropy_of
from quantizers.saturation import ChannelRanges

CODEBOOK_BUFFERS = (".codes", ".embed")  # ends of their names, ours and vector-quantize-pytorch's
NO_ESTIMATE = (
    "has no differentiable estimate of its rate, which train.rate_weight needs; fsq, q2d2, lattice (bound "
    "cube) and learned-lattice (small blocks) have one. Leave train.rate_weight out, or use one of these"
)
MAX_STREAM_SIZE = 2**62  # codes of one stream are int64


class Quantized(NamedTuple):
    """The output of a quantizer.

    features: [batch, frames, dim] float32, the quantized features
    codes: [batch, frames, streams] int64, each in [0, codebook_sizes[stream]); a token of a stream of stride
        s fills the s frames of its block
    loss: scalar, the auxiliary loss, already weighted; 0 in eval mode
    diagnostics: detached tensors for logging and figures, cheap to compute. In eval mode: `coordinates`
        [batch, frames, channels] before rounding for fixed codes, or `vectors` [batch, frames, groups, dim]
        before the search in `codebook_vectors`
    """

    features: Tensor
    codes: Tensor
    loss: Tensor
    diagnostics: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of a quantizer. Subclasses add fields and check them in `__post_init__`.

    A subclass describes each option in its docstring, as `option: meaning` at the start of a line; the
    reference and the schema of study files take their descriptions from there.

    added: names of options that were added after studies had been run without them. At their defaults they
    are left out of the options of a run, so that the run keeps its identity.
    """

    added: ClassVar[tuple[str, ...]] = ()


class Quantizer(nn.Module, ABC):
    """A bottleneck from continuous features to codes and back.

    A subclass names its `config_class`, sets `codebook_sizes` in `__init__`, and implements `quantize` and
    `lookup`, both in float32, and `initialise` if it can start from data. In eval mode
    `decode(forward(x).codes)` equals `forward(x).features` exactly.

    Only `quantize` in training mode may use collectives of `torch.distributed`: every rank takes each
    training step, while one rank alone may do everything else.
    """

    config_class: ClassVar[type[Config]] = Config
    family: ClassVar[str] = "other"
    learned: ClassVar[bool] = False  # whether the codebook itself is learned (projections do not count)
    paper: ClassVar[str] = ""
    # Part of a run's identity: raise it when a change of the code changes what a training gives, so that
    # earlier runs are not taken for those of the new code.
    revision: ClassVar[int] = 1
    revives: ClassVar[bool] = False  # whether dead codes are brought back into use
    exports: bool = True  # whether torch.export can trace it
    in_pieces: bool = True  # whether a whole number of periods of its strides gets the same codes alone
    fit_options: ClassVar[tuple[str, ...]] = ()  # extra options that `fit` understands
    stage_name: ClassVar[str] = "stages"  # of what `prefix` keeps the first ones of
    released: ClassVar[str] = ""  # name of the release whose codebooks `load_released` takes

    name: str = ""
    codebook_sizes: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()  # frames per token of each stream; empty where all have one per frame

    def __init__(self, dim: int, config: Config) -> None:
        super().__init__()
        check_count("dim", dim)
        self.dim = dim
        self.config = config

    @classmethod
    def fit(cls, bits: float, options: Mapping[str, Any]) -> dict[str, Any]:
        """Complete `options` so that the rate of the quantizer is as near to `bits` per frame as possible.

        Raises QuantizerError where the options of the method leave no such choice.
        """
        raise QuantizerError(
            f"{cls.__name__} does not choose its configuration from bits; give its options instead"
        )

    def load_released(self, tensors: Mapping[str, Tensor]) -> None:
        """Load the values that were released with the codec `released`, by their released names.

        Raises QuantizerError if the method was not released with a codec, or if the tensors do not fit.
        """
        raise QuantizerError(
            f"{self.name or type(self).__name__} is not the bottleneck of a released codec; train it, or use "
            "the one that was released with the weights"
        )

    @classmethod
    def waits_for(cls, options: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of those of `options` whose meaning depends on the features that will be quantized."""
        return ()

    @classmethod
    def fit_to(
        cls, bits: float, options: Mapping[str, Any], variances: Tensor, measured: bool = True
    ) -> dict[str, Any]:
        """`fit`, given the variances [dim] of the features' principal components, falling, float64.

        measured: errors of cells are measured on the quantizer, as for training. A plan takes a formula.
        """
        return cls.fit(bits, options)

    @classmethod
    def planar_views(cls, config: Any) -> tuple[PlanarView, ...]:
        """Pairs of channels that a figure can show as planes of cells, for the options `config`.

        Empty if the codes are not products of pairs, or if eval mode gives no `coordinates`.
        """
        return ()

    @property
    def channel_ranges(self) -> ChannelRanges | None:
        """Where the levels of the channels of the diagnostics `coordinates` lie, to tell whether values pile
        up at the ends of their ranges; None where eval mode gives no `coordinates`."""
        return None

    @classmethod
    def depth_of(cls, config: Any) -> int:
        """Number of stages under the options `config` whose first ones can be decoded alone, see `prefix`; 1
        where there are none."""
        return 1

    @property
    def depth(self) -> int:
        """Number of stages whose first ones can be decoded alone."""
        return self.depth_of(self.config)

    def prefix(self, stages: int) -> Quantizer:
        """The quantizer of the first `stages` stages (1 to `depth`), which shares all weights with this one.

        Its codes are the first codes of this one (its factors the first factors, where several share a
        stream), and its rate follows from its sizes. It is for evaluation only: in eval mode, and not to be
        trained. Raises QuantizerError for another number of stages.
        """
        check_count("stages", stages)
        if stages > self.depth:
            raise QuantizerError(
                f"{self._who} has {self.depth} stage(s) that can be decoded alone, not {stages}"
            )
        if stages == self.depth:
            return self
        with torch.random.fork_rng(devices=[]):  # new layers draw weights, and are replaced
            part = self.cut(stages)
        part.name = self.name
        return part.to(self._device(torch.zeros(()))).train(self.training)

    def cut(self, stages: int) -> Quantizer:
        """A quantizer of the first `stages`, fewer than `depth`, with the modules of this one."""
        raise NotImplementedError

    @property
    def streams(self) -> int:
        """Number of token streams."""
        return len(self.codebook_sizes)

    @property
    def stream_strides(self) -> tuple[int, ...]:
        """Frames per token of each stream. The tokens of a stream of stride s are its codes in the frames 0,
        s, 2 s and so on of a clip; codes between them repeat the one before and are no tokens: `decode`
        ignores them, and all that counts tokens leaves them out."""
        return self.strides or (1,) * self.streams

    @property
    def factor_strides(self) -> tuple[int, ...]:
        """Frames per token of each of the sub-codes that `factors` returns: those of their streams."""
        if set(self.stream_strides) <= {1}:
            return (1,) * len(self.factor_sizes)
        if self.factor_sizes != self.codebook_sizes:
            raise QuantizerError(f"{self._who}: strides of factors that are no streams are not stated")
        return self.stream_strides

    @property
    def tokens_per_frame(self) -> float:
        """Mean number of tokens per frame of a long clip: the sum of 1 / stride over streams."""
        return math.fsum(1 / stride for stride in self.stream_strides)

    @property
    def bits_per_frame(self) -> float:
        """Nominal bits per frame of a long clip: the sum of log2(codebook size) / stride over streams.

        A clip of n frames has ceil(n / stride) tokens of a stream, the last of which may stand for fewer
        frames. Rates that are measured count these tokens.
        """
        sizes = zip(self.codebook_sizes, self.stream_strides, strict=True)
        return math.fsum(math.log2(size) / stride for size, stride in sizes)

    @property
    def learned_values(self) -> int:
        """Number of values that training sets: parameters, and codebooks that are moving averages."""
        averaged = [buffer for name, buffer in self.named_buffers() if name.endswith(CODEBOOK_BUFFERS)]
        return sum(value.numel() for value in [*self.parameters(), *averaged])

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """Sizes of the independent sub-codes that `factors` returns."""
        return self.codebook_sizes

    @property
    def codebook_vectors(self) -> Tensor | None:
        """Learned codebooks [groups, codes, dim] whose nearest code, by Euclidean distance, is taken (first);
        None for other methods."""
        return None

    def start(self, features: Tensor) -> None:
        """Initialise weights and codebooks from `features` [frames, dim].

        Call this once, before the first step and before an optimizer is created, with frames of the kind
        that the quantizer will see: 20,000 or more if possible, at least one, in order of time. The weights
        then depend only on these frames, and the global random generator is not used. Ranks exchange nothing:
        give all of them the same frames, or send the weights and buffers of the first rank afterwards.

        Raises QuantizerError for frames of another shape, for no frames, and for NaN or infinite values.
        """
        check_frames(features, self.dim, self._who)
        training = self.training
        self.eval()
        try:
            with torch.no_grad(), torch.autocast(device_type=features.device.type, enabled=False):
                self.initialise(features.float().to(self._device(features)))
        finally:
            self.train(training)

    def initialise(self, features: Tensor) -> None:
        """Set parameters and buffers by finite float32 `features` [frames, dim]; called by `start`, in eval
        mode and without gradients. By default nothing.

        Draws from generators of its own, never from the global one, and uses no collectives.
        """

    def forward(self, features: Tensor) -> Quantized:
        """Quantize `features` [batch, frames, dim], in float32 whatever autocast says.

        Raises QuantizerError for another shape, and NonFiniteError for NaN or infinite values in eval mode,
        where they would become codes like any other. In training mode they get codes within the sizes and
        features that are not finite, and the training decides: looking at them would make every step wait
        for the GPU.
        """
        self._check_features(features)
        if not (self.training or torch.compiler.is_compiling()):
            self._check_finite(features, "cannot quantize")
        with torch.autocast(device_type=features.device.type, enabled=False):
            return self.quantize(features.float())

    def encode(self, features: Tensor) -> Tensor:
        """Codes [batch, frames, streams] of `features`. Never changes the state, even in training mode."""
        training = self.training
        if training:
            self.eval()
        try:
            with torch.no_grad():
                return self.forward(features).codes
        finally:
            if training:
                self.train()

    def decode(self, codes: Tensor) -> Tensor:
        """Features [batch, frames, dim] float32 of `codes` [batch, frames, streams] int64.

        Raises QuantizerError for another shape or type, and for codes outside the codebooks.
        """
        self._check_codes(codes)
        with torch.autocast(device_type=codes.device.type, enabled=False):
            return self.lookup(codes)

    def factors(self, codes: Tensor) -> Tensor:
        """Independent sub-codes [batch, frames, factors] int64 of a product codebook, for usage
        statistics."""
        return codes

    def from_factors(self, factors: Tensor) -> Tensor:
        """Codes [batch, frames, streams] whose sub-codes `factors` [batch, frames, factors] are.

        Each stream is a mixed-radix number of the next factors, the first of them fastest. A method whose
        `factors` are split otherwise overrides this; QuantizerError where they are and it does not.
        """
        streams, place = [], 0
        for size in self.codebook_sizes:
            code, radix = torch.zeros_like(factors[..., 0]), 1
            while radix < size and place < len(self.factor_sizes):
                code = code + factors[..., place] * radix
                radix *= self.factor_sizes[place]
                place += 1
            if radix != size:
                raise QuantizerError(f"{self._who}: factors of {self.factor_sizes} do not make {size} codes")
            streams.append(code)
        return torch.stack(streams, -1)

    def surrogate(self, features: Tensor) -> Tensor | None:
        """The smooth map [batch, frames, dim] whose gradient the backward pass of `forward` uses, where
        there is one.

        It states the gradient estimator: the conformance suite compares the two gradients. None: not stated.
        """
        return None

    @classmethod
    def estimates_rate(cls, config: Any) -> bool:
        """Whether `estimated_bits` can be computed under the options `config`."""
        return False

    def cells(self, features: Tensor) -> Cells:
        """The channels of float32 `features` before rounding, for `estimated_bits`, with autocast off."""
        raise NotImplementedError

    def estimated_bits(self, features: Tensor) -> Tensor:
        """A differentiable estimate of the entropy of the codes of `features` [batch, frames, dim], in bits
        per frame, a scalar. For training; `usage` measures the entropy.

        Raises QuantizerError where the method has none, see `estimates_rate`.
        """
        if not self.estimates_rate(self.config):
            raise QuantizerError(f"{self._who} {NO_ESTIMATE}")
        self._check_features(features)
        with torch.autocast(device_type=features.device.type, enabled=False):
            return entropy_of(self.cells(features.float()))

    @abstractmethod
    def quantize(self, features: Tensor) -> Quantized:
        """Quantize float32 `features` [batch, frames, dim] with autocast off."""

    @abstractmethod
    def lookup(self, codes: Tensor) -> Tensor:
        """Features of `codes` with autocast off."""

    def extra_repr(self) -> str:
        return f"dim={self.dim}, bits_per_frame={self.bits_per_frame:.3f}, {self.config}"

    @property
    def _who(self) -> str:
        return self.name or type(self).__name__

    def _device(self, features: Tensor) -> torch.device:
        """Where the weights are; where `features` are if there are none."""
        return next((value.device for value in (*self.parameters(), *self.buffers())), features.device)

    def _check_features(self, features: Tensor) -> None:
        if features.ndim != 3 or features.shape[-1] != self.dim:
            raise QuantizerError(
                f"{self._who} takes features [batch, frames, {self.dim}], not {list(features.shape)}"
            )

    def _check_finite(self, features: Tensor, what: str) -> None:
        check_finite(features, f"{self._who} {what}")

    def _check_codes(self, codes: Tensor) -> None:
        if codes.ndim != 3 or codes.shape[-1] != self.streams or codes.dtype != torch.int64:
            raise QuantizerError(
                f"{self._who} takes int64 codes [batch, frames, {self.streams}], "
                f"not {str(codes.dtype).removeprefix('torch.')} {list(codes.shape)}"
            )
        if not codes.numel() or torch.compiler.is_compiling():
            return
        limits = torch.tensor(self.codebook_sizes, device=codes.device)
        outside = (codes < 0) | (codes >= limits)
        if outside.any():
            _, _, stream = outside.nonzero()[0].tolist()
            low, high = codes[..., stream].aminmax()
            raise QuantizerError(
                f"{self._who}: codes of stream {stream} must lie in [0, {self.codebook_sizes[stream]}), not "
                f"in [{int(low)}, {int(high)}]; were they made by another configuration?"
            )


def check_frames(features: Tensor, dim: int, who: str) -> None:
    """Raise QuantizerError unless `features` are [frames, dim], at least one, and finite."""
    if features.ndim != 2 or features.shape[-1] != dim or not len(features):
        raise QuantizerError(
            f"{who} starts from features [frames, {dim}] of at least one frame, not {list(features.shape)}"
        )
    check_finite(features, f"{who} cannot start from")


def check_finite(features: Tensor, what: str) -> None:
    """Raise NonFiniteError, beginning with `what`, where `features` [..., dim] are NaN or infinite."""
    if torch.isfinite(features.sum()):  # five times as fast as looking at each
        return
    frames = torch.isfinite(features).all(-1).flatten()
    if not frames.all():
        raise NonFiniteError(
            f"{what} features that are NaN or infinite: {int((~frames).sum())} of {len(frames)} frames are; "
            "check the audio and the weights of the encoder"
        )
