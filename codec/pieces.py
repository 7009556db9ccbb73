"""Pieces of a long recording through a codec, in memory that does not grow with its length.

Each piece goes through the network with the frames around it that the network can see (`Reach`), and what
belongs to these is dropped. So the pieces together are the whole, up to the order in which a machine sums;
tests hold them equal to the bit.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from codec.backbones.contract import Reach
from codec.model import Codec

PIECE_SECONDS = 8.0


class PiecesError(ValueError):
    """A codec whose result for one frame depends on all others; the message says why."""


def check_pieces(codec: Codec) -> None:
    """Raise PiecesError unless `codec` can code a recording in pieces."""
    for part in (codec.encoder, codec.decoder):
        if not isinstance(getattr(part, "reach", None), Reach):
            raise PiecesError(
                f"its {type(part).__name__} has no bounded reach: each frame depends on the whole recording"
            )
    if not codec.quantizer.in_pieces:
        name = codec.quantizer.name or type(codec.quantizer).__name__
        raise PiecesError(f"its quantizer {name!r} searches the codes of all frames together")


def period(codec: Codec) -> int:
    """Frames in which each stream of tokens has a whole number of tokens."""
    return math.lcm(*codec.quantizer.stream_strides)


def whole_periods(codec: Codec, seconds: float) -> int:
    """The frames of about `seconds`, a whole number of periods."""
    one = period(codec)
    return one * max(1, round(seconds * codec.frame_rate / one))


class PieceEncoder:
    """Codes of audio that arrives in parts; `codec` in eval mode. Raises PiecesError, see `check_pieces`."""

    def __init__(self, codec: Codec, seconds: float = PIECE_SECONDS) -> None:
        check_pieces(codec)
        self._codec, self._frames = codec, whole_periods(codec, seconds)
        self._reach: Reach = codec.encoder.reach  # type: ignore[assignment]  # check_pieces has seen it
        self._held = torch.zeros(0)  # from frame `_first` on
        self._first = self._done = 0
        self.samples = 0

    @torch.no_grad()
    def feed(self, audio: Tensor) -> Tensor:
        """Codes [1, frames, streams] of the pieces that `audio` [samples] float32 completes."""
        self._held = torch.cat([self._held, audio])
        self.samples += len(audio)
        parts = [self._none()]
        hop = self._codec.hop
        while self._first + len(self._held) // hop >= self._done + self._frames + self._reach.after:
            end = self._done + self._frames
            given = self._held[: (end + self._reach.after - self._first) * hop]
            parts.append(self._encode(given, self._done - self._first, end - self._first))
            self._done = end
            kept = max(0, end - self._reach.before)
            self._held = self._held[(kept - self._first) * hop :].clone()
            self._first = kept
        return torch.cat(parts, 1)

    @torch.no_grad()
    def finish(self) -> Tensor:
        """Codes [1, frames, streams] of what is left, silence filling its last frame."""
        if not self.samples:
            return self._none()
        return self._encode(self._held, self._done - self._first, None)

    def _encode(self, audio: Tensor, first: int, end: int | None) -> Tensor:
        quantizer = self._codec.quantizer
        features = self._codec.features(audio.to(_device(self._codec))[None])[:, first:end]
        return quantizer.encode(features).cpu()

    def _none(self) -> Tensor:
        return torch.zeros(1, 0, self._codec.quantizer.streams, dtype=torch.int64)


class PieceDecoder:
    """Audio of codes that arrive in parts of whole periods, but for the last part; `codec` in eval mode."""

    def __init__(self, codec: Codec, seconds: float = PIECE_SECONDS) -> None:
        check_pieces(codec)
        self._codec, self._frames = codec, whole_periods(codec, seconds)
        self._reach: Reach = codec.decoder.reach  # type: ignore[assignment]
        self._held = torch.zeros(1, 0, codec.quantizer.dim)  # features, from frame `_first` on
        self._first = self._done = 0

    @property
    def samples(self) -> int:
        """Samples that were given so far."""
        return self._done * self._codec.hop

    @torch.no_grad()
    def feed(self, codes: Tensor) -> Tensor:
        """Audio [samples] that `codes` [1, frames, streams] complete.

        The last frame is held back: only the end of the recording tells how much of it is silence.
        """
        features = self._codec.quantizer.decode(codes.to(_device(self._codec)))
        self._held = torch.cat([self._held.to(features.device), features], 1)
        parts = [torch.zeros(0)]
        while (ready := self._first + self._held.shape[1] - self._reach.after - 1 - self._done) > 0:
            end = self._done + min(ready, self._frames)
            given = self._held[:, : end + self._reach.after - self._first]
            parts.append(self._decode(given, self._done - self._first, end - self._first))
            self._done = end
            kept = max(0, end - self._reach.before)
            self._held = self._held[:, kept - self._first :].clone()
            self._first = kept
        return torch.cat(parts)

    @torch.no_grad()
    def finish(self, samples: int) -> Tensor:
        """What is left of a recording of `samples`."""
        if not self._held.shape[1]:
            return torch.zeros(samples)
        rest = self._decode(self._held, self._done - self._first, None)
        left = samples - self.samples
        return F.pad(rest[:left], (0, max(0, left - len(rest))))

    def _decode(self, features: Tensor, first: int, end: int | None) -> Tensor:
        hop = self._codec.hop
        return self._codec.decoder(features)[0, first * hop : None if end is None else end * hop].cpu()


def _device(codec: Codec) -> torch.device:
    return next(codec.parameters()).device
