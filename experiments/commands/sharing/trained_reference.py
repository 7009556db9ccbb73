"""A trained codec as a system of `codecbench evaluate`: `--codec trained:RUN`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from codec.model import Codec
from codec.references.contract import Decoded, Rates, Reference, ReferenceCodecError, fit, resample
from experiments.tracking.models.trained_codecs import load_trained

PREFIX = "trained:"


@dataclass(frozen=True, kw_only=True)
class TrainedReference(Reference):
    """A codec that codecbench trained. bits are those of the codes, by the nominal rate."""

    summary: ClassVar[str] = "a codec that codecbench trained"

    name: str
    codec: Codec

    @property
    def label(self) -> str:
        return self.name

    @property
    def sample_rate(self) -> int:
        return self.codec.sample_rate

    @property
    def rates(self) -> Rates:
        quantizer = self.codec.quantizer
        if not quantizer.streams:
            return Rates()
        frames = self.codec.frame_rate
        return Rates(frames, frames * quantizer.streams, quantizer.streams, quantizer.bits_per_frame)

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        codec = self.codec
        samples = torch.from_numpy(resample(audio, sample_rate, codec.sample_rate)).unsqueeze(0)
        if not samples.numel():
            return Decoded(np.zeros(len(audio), dtype=np.float32), 0)
        bits = None
        if codec.quantizer.streams:
            codes = codec.encode(samples)
            decoded = codec.decode(codes)[:, : samples.shape[1]]
            bits = round(codes.shape[1] * codec.quantizer.bits_per_frame)
        else:
            decoded = codec.reconstruct(samples)
        made = resample(decoded[0].numpy(), codec.sample_rate, sample_rate)
        return Decoded(fit(made, len(audio)), bits)


def parse(text: str, tracking_uri: str | None) -> TrainedReference:
    """The codec of `trained:RUN`: a folder, or the hash or id of a run. Raises what `load_trained` raises."""
    given = text.removeprefix(PREFIX)
    if not given:
        raise ReferenceCodecError(f"{text}: write it as trained:RUN, with the folder or the hash of a run")
    codec = load_trained(given, tracking_uri).codec
    path = Path(given)
    return TrainedReference(name=path.resolve().name if path.is_dir() else given, codec=codec)
