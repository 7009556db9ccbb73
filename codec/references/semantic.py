"""Published codecs that hear mel features beside the waveform: one codebook, through transformers."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from codec.references.pretrained import Pretrained

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class XCodec2(Pretrained):
    """X-Codec 2 (Ye et al. 2025): 16 kHz, 50 tokens per second of 16 bits.

    Its feature extractor, which comes with the weights, appends a sample and fills up the last frame: a clip
    of whole frames spends one token more.
    """

    summary: ClassVar[str] = "X-Codec 2, 16 kHz, 0.8 kbit/s"
    model_class: ClassVar[str] = "Xcodec2Model"
    extractor_class: ClassVar[str] = "Xcodec2FeatureExtractor"
    published: ClassVar[str] = "HKUSTAudio/xcodec2-hf"
    fills_frames: ClassVar[bool] = True

    @property
    def label(self) -> str:
        return "xcodec2"

    def prepare(self) -> None:
        super().prepare()
        _ = self._extractor

    def _run(self, audio: "Tensor") -> Any:
        inputs = self._extractor(audio=audio[0, 0], sampling_rate=self.sample_rate, return_tensors="pt")
        return self._model(**inputs)

    @property
    def _streams(self) -> int:
        return 1

    @property
    def _codebook_size(self) -> int:
        return math.prod(self._model.config.quantization_levels)

    @cached_property
    def _extractor(self) -> Any:
        return self._load(self.extractor_class)


@dataclass(frozen=True, kw_only=True)
class NeuCodec(XCodec2):
    """NeuCodec (Neuphonic 2025): encodes 16 kHz, decodes 24 kHz, 50 tokens per second of 16 bits.

    Its feature extractor loses a last frame that is not whole, so clips are filled up before it.
    """

    summary: ClassVar[str] = "NeuCodec, 16 kHz in and 24 kHz out, 0.8 kbit/s"
    model_class: ClassVar[str] = "NeuCodecModel"
    extractor_class: ClassVar[str] = "NeuCodecFeatureExtractor"
    published: ClassVar[str] = "neuphonic/neucodec"
    fills_frames: ClassVar[bool] = False

    @property
    def label(self) -> str:
        return "neucodec"

    @property
    def sample_rate(self) -> int:
        return int(self._model.config.input_sampling_rate)

    @property
    def _hop(self) -> int:
        return int(self._model.config.encoder_hop_length)

    @property
    def _output_rate(self) -> int:
        return int(self._model.config.output_sampling_rate)
