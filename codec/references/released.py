"""Released WavTokenizer and Q2D2 checkpoints as reference codecs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from codec.checkpoints import load_wavtokenizer
from codec.references.contract import Decoded, Rates, Reference, ReferenceUnavailable, fit, resample

if TYPE_CHECKING:
    from codec.model import Codec


@lru_cache
def _digest(path: Path, changed: int) -> str:
    """sha256 of a file; changed: when it was written last."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class WavTokenizer(Reference):
    """A released checkpoint; `config` is its YAML file. Of a Q2D2 model without it: quantizer and levels."""

    summary: ClassVar[str] = "a released WavTokenizer checkpoint (options checkpoint, config)"
    main_option: ClassVar[str] = "checkpoint"
    released_at: ClassVar[str] = "https://huggingface.co/novateur"

    checkpoint: str = ""
    config: str | None = None
    quantizer: str | None = None
    levels: Sequence[int] | None = None

    @property
    def label(self) -> str:
        return f"{type(self).__name__.lower()} {Path(self.checkpoint).stem}".strip()

    @property
    def sample_rate(self) -> int:
        return self._codec.sample_rate

    @property
    def rates(self) -> Rates:
        codec = self._codec
        bits = codec.quantizer.bits_per_frame
        return Rates(codec.frame_rate, codec.token_rate, codec.quantizer.streams, bits)

    @property
    def version(self) -> str:
        """What the files hold: another training under the same name, of the same size, is another codec."""
        path = Path(self.checkpoint)
        if not path.is_file():
            return "absent"
        files = [path, *([Path(self.config)] if self.config and Path(self.config).is_file() else [])]
        return f"{path.name} {' '.join(_digest(file, file.stat().st_mtime_ns)[:16] for file in files)}"

    def prepare(self, device: str = "cpu") -> None:
        self._codec.to(device)

    @cached_property
    def _codec(self) -> "Codec":
        if not Path(self.checkpoint).is_file():
            where = f"there is no {self.checkpoint}" if self.checkpoint else "no checkpoint is given"
            raise ReferenceUnavailable(
                f"weights not found: {where}; download one from {self.released_at} and give its path as the "
                "option checkpoint"
            )
        return load_wavtokenizer(self.checkpoint, self.config, quantizer=self.quantizer, levels=self.levels)

    def reconstruct(self, audio: np.ndarray, sample_rate: int) -> Decoded:
        import torch

        codec = self._codec
        signal = torch.from_numpy(resample(audio, sample_rate, codec.sample_rate).copy())[None]
        codes = codec.encode(signal.to(next(codec.parameters()).device))
        decoded = codec.decode(codes)[0].cpu().numpy()
        bits = round(codes.shape[1] * codec.quantizer.bits_per_frame)
        return Decoded(fit(resample(decoded, codec.sample_rate, sample_rate), len(audio)), bits)


@dataclass(frozen=True, kw_only=True)
class Q2D2(WavTokenizer):
    """A released Q2D2 checkpoint."""

    summary: ClassVar[str] = "a released Q2D2 checkpoint (options checkpoint, config or quantizer and levels)"
    released_at: ClassVar[str] = "the page of the paper, arXiv 2512.01537"
