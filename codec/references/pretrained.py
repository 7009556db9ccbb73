"""Published neural codecs through transformers, from the user's cache of weights; nothing is downloaded."""

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from codec.references.contract import (
    Decoded,
    Rates,
    Reference,
    ReferenceCodecError,
    ReferenceUnavailable,
    fit,
    kilobits,
    resample,
)

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Pretrained(Reference):
    """A model of transformers. checkpoint: a folder, or a name of the Hugging Face hub that is in its cache.

    Every token counts with log2 of its codebook's size; frames that only hold padding count too.
    """

    main_option: ClassVar[str] = "checkpoint"
    model_class: ClassVar[str]
    published: ClassVar[str]  # the checkpoint where none is given
    fills_frames: ClassVar[bool] = False  # whether the model itself pads clips to whole frames

    checkpoint: str = ""

    @property
    def weights(self) -> str:
        """The checkpoint that is used."""
        return self.checkpoint or self.published

    @property
    def sample_rate(self) -> int:
        config = self._model.config
        return int(getattr(config, "sampling_rate", None) or config.sample_rate)

    @property
    def rates(self) -> Rates:
        frame_rate = self.sample_rate / self._hop
        bits = self._streams * math.log2(self._codebook_size)
        return Rates(frame_rate, frame_rate * self._streams, self._streams, bits)

    @property
    def version(self) -> str:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return f"{self.weights}, transformers {version('transformers')}"
        except PackageNotFoundError:
            return self.weights

    def prepare(self) -> None:
        _ = self._model

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        import torch

        signal = resample(audio, sample_rate, self.sample_rate)
        whole = signal if self.fills_frames else np.pad(signal, (0, -len(signal) % self._hop))
        with torch.inference_mode():
            output = self._run(torch.from_numpy(whole)[None, None])
        bits = round(output.audio_codes.numel() * math.log2(self._codebook_size))
        decoded = output.audio_values.float().reshape(-1).numpy()
        return Decoded(fit(resample(decoded, self._output_rate, sample_rate), len(audio)), bits)

    @abstractmethod
    def _run(self, audio: "Tensor") -> Any:
        """What the model returns for `audio` [1, 1, samples]: has audio_codes and audio_values."""

    @property
    @abstractmethod
    def _streams(self) -> int:
        """Tokens a frame."""

    @property
    def _hop(self) -> int:
        """Samples a frame."""
        return int(self._model.config.hop_length)

    @property
    def _codebook_size(self) -> int:
        """Values of a token."""
        return int(self._model.config.codebook_size)

    @property
    def _output_rate(self) -> int:
        """Rate of the decoded audio, in Hz."""
        return self.sample_rate

    @cached_property
    def _model(self) -> Any:
        return self._load(self.model_class).eval()

    def _load(self, class_name: str) -> Any:
        """The part of the checkpoint that a class of transformers reads. Raises ReferenceUnavailable."""
        try:
            import transformers
            from transformers.utils import logging
        except ImportError:
            raise ReferenceUnavailable(
                f"{self.label} needs the package transformers: pip install transformers"
            ) from None
        if not hasattr(transformers, class_name):
            raise ReferenceUnavailable(
                f"{self.label}: transformers {transformers.__version__} has no {class_name}: "
                "pip install --upgrade transformers"
            )
        logging.disable_progress_bar()
        try:
            return getattr(transformers, class_name).from_pretrained(self.weights, local_files_only=True)
        except (OSError, ValueError) as error:
            how = (
                f"hf download {self.published}, or the option checkpoint with the path of a folder"
                if not self.checkpoint
                else f"hf download {self.checkpoint} where that is a name of the hub"
            )
            reason = str(error).splitlines()[0][:120]
            raise ReferenceUnavailable(
                f"weights not found: {self.weights} ({reason}). Get them: {how}"
            ) from None


@dataclass(frozen=True, kw_only=True)
class EnCodec(Pretrained):
    """EnCodec (Defossez et al. 2022) at one of its bandwidths, in bit/s."""

    summary: ClassVar[str] = "EnCodec 24 kHz: 1.5, 3, 6, 12 or 24 kbit/s"
    main_option: ClassVar[str] = "bitrate"
    model_class: ClassVar[str] = "EncodecModel"
    published: ClassVar[str] = "facebook/encodec_24khz"

    bitrate: float = 6_000

    @property
    def label(self) -> str:
        return f"encodec {kilobits(self.bitrate)}"

    @property
    def _streams(self) -> int:
        config = self._model.config
        per_stream = self.sample_rate / self._hop * math.log2(config.codebook_size)
        return max(1, math.floor(self.bitrate / per_stream))

    def _run(self, audio: "Tensor") -> Any:
        return self._model(audio, bandwidth=_bandwidth("encodec", self.bitrate, self._model.config))


@dataclass(frozen=True, kw_only=True)
class DAC(Pretrained):
    """Descript's codec (Kumar et al. 2023) with the first `streams` codebooks, all of them by default."""

    summary: ClassVar[str] = "Descript Audio Codec, with its first codebooks (option streams)"
    main_option: ClassVar[str] = "streams"
    model_class: ClassVar[str] = "DacModel"
    published: ClassVar[str] = "descript/dac_24khz"

    streams: int | None = None

    def __post_init__(self) -> None:
        _check_streams("dac", self.streams)

    @property
    def label(self) -> str:
        return f"dac {self.streams} streams" if self.streams else "dac"

    @property
    def _streams(self) -> int:
        most = int(self._model.config.n_codebooks)
        return most if self.streams is None else min(self.streams, most)

    def _run(self, audio: "Tensor") -> Any:
        return self._model(audio, n_quantizers=self._streams)


@dataclass(frozen=True, kw_only=True)
class Mimi(Pretrained):
    """Mimi (Defossez et al. 2024) with the first `streams` codebooks: 8, as published, make 1.1 kbit/s."""

    summary: ClassVar[str] = "Mimi, with its first codebooks (option streams, 8 as published)"
    main_option: ClassVar[str] = "streams"
    model_class: ClassVar[str] = "MimiModel"
    published: ClassVar[str] = "kyutai/mimi"

    streams: int = 8

    def __post_init__(self) -> None:
        _check_streams("mimi", self.streams)

    @property
    def label(self) -> str:
        return f"mimi {self.streams} streams"

    @property
    def _streams(self) -> int:
        return min(self.streams, int(self._model.config.num_quantizers))

    @property
    def _hop(self) -> int:
        config = self._model.config
        return round(config.sampling_rate / config.frame_rate)

    def _run(self, audio: "Tensor") -> Any:
        return self._model(audio, num_quantizers=self._streams)


@dataclass(frozen=True, kw_only=True)
class XCodec(Pretrained):
    """X-Codec (Ye et al. 2024) at one of its bandwidths, in bit/s."""

    summary: ClassVar[str] = "X-Codec 16 kHz: 0.5, 1, 1.5, 2 or 4 kbit/s"
    main_option: ClassVar[str] = "bitrate"
    model_class: ClassVar[str] = "XcodecModel"
    published: ClassVar[str] = "hf-audio/xcodec-hubert-librispeech"

    bitrate: float = 1_000

    @property
    def label(self) -> str:
        return f"xcodec {kilobits(self.bitrate)}"

    @property
    def _streams(self) -> int:
        config = self._model.config
        per_stream = self.sample_rate / self._hop * math.log2(config.codebook_size)
        return max(1, math.floor(self.bitrate / per_stream + 1e-6))

    def _run(self, audio: "Tensor") -> Any:
        return self._model(audio, bandwidth=_bandwidth("xcodec", self.bitrate, self._model.config))


def _bandwidth(name: str, bitrate: float, config: Any) -> float:
    """`bitrate` in kbit/s, if it is one of the model's."""
    known = [float(value) for value in config.target_bandwidths]
    if bitrate / 1000 not in known:
        offered = ", ".join(f"{1000 * value:g}" for value in known)
        raise ReferenceCodecError(f"{name}: bitrate {bitrate:g} bit/s is not one of {offered}")
    return bitrate / 1000


def _check_streams(name: str, streams: int | None) -> None:
    if streams is not None and (not isinstance(streams, int) or not 1 <= streams <= 1024):
        raise ReferenceCodecError(f"{name}: streams {streams!r} is not a number of codebooks from 1 to 1024")
