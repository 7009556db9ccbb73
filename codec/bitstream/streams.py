"""Recordings of any length through a trained codec into blocks of bytes and back, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from codec import pieces
from codec.bitstream import payload, recordings
from codec.bitstream.blocks import BlockReader, BlockWriter, StreamHeader
from codec.bitstream.container import SPARE_FRAMES, StreamError
from codec.model import Codec
from codec.pieces import PIECE_SECONDS, PieceDecoder, PieceEncoder, PiecesError

BLOCK_SECONDS = 10.0


class StreamEncoder:
    """Bytes of a recording that arrives in parts: what `feed` and `finish` give, in this order.

    block_seconds: of a block. model: `adaptive` or `context`; None takes the shorter one. It and its settings
    are those that are shortest for the codes of the first blocks, of `first_seconds` together, at least one;
    nothing leaves before these are full. settings: these. The bytes do not depend on the parts.

    Raises StreamError for a codec without codes or that cannot code in pieces, and for the model `static`,
    whose tables are of a whole recording.
    """

    def __init__(
        self,
        codec: Codec,
        digest: str,
        model: str | None = None,
        block_seconds: float = BLOCK_SECONDS,
        first_seconds: float = 0.0,
    ) -> None:
        recordings.check_codes(codec)
        _check_pieces(codec)
        if model == "static":
            raise StreamError(
                "the model 'static' sends the frequencies of the whole recording first, which blocks cannot; "
                "use adaptive or context"
            )
        self._codec, self._digest, self._model = codec.eval(), digest, model
        self._encoder = PieceEncoder(codec, min(PIECE_SECONDS, block_seconds))
        self._frames = pieces.whole_periods(codec, block_seconds)
        self._first = self._frames * max(1, round(first_seconds / block_seconds))
        self._held: list[np.ndarray] = []  # factors of frames that are in no block yet
        self._writer: BlockWriter | None = None
        self.settings: payload.Settings | None = None

    @property
    def samples(self) -> int:
        """Samples that came so far."""
        return self._encoder.samples

    def feed(self, audio: Tensor) -> bytes:
        """The blocks that `audio` [samples], float32 on [-1, 1] at the codec's sample rate, completes."""
        return self._blocks(self._encoder.feed(audio), last=False)

    def finish(self) -> bytes:
        """The rest, with the end."""
        content = self._blocks(self._encoder.finish(), last=True)
        assert self._writer is not None
        return content + self._writer.end(self.samples)

    def _blocks(self, codes: Tensor, last: bool) -> bytes:
        self._held.append(self._codec.quantizer.factors(codes)[0].numpy())
        wanted = self._first if self._writer is None else self._frames
        if not last and sum(map(len, self._held)) < wanted:
            return b""
        factors = np.concatenate(self._held)
        content = []
        if self._writer is None:
            self._writer = self._start(factors[: self._first])
            content.append(self._writer.header())
        whole = len(factors) if last else len(factors) - len(factors) % self._frames
        for first in range(0, whole, self._frames):
            content.append(self._writer.block(factors[first : min(first + self._frames, whole)]))
        self._held = [factors[whole:]]
        return b"".join(content)

    def _start(self, factors: np.ndarray) -> BlockWriter:
        codec, quantizer = self._codec, self._codec.quantizer
        sizes, strides = quantizer.factor_sizes, quantizer.factor_strides
        lengths = payload.shortest(factors, sizes, strides=strides)
        allowed = [lengths[self._model]] if self._model else [lengths["adaptive"], lengths["context"]]
        self.settings = min(allowed, key=lambda length: length.bits).settings
        header = StreamHeader(
            settings=self.settings,
            identity=recordings.identity_of(self._digest),
            sample_rate=codec.sample_rate,
            hop=codec.hop,
            factors=len(sizes),
        )
        return BlockWriter(header, sizes, strides)


class StreamDecoder:
    """Audio of a stream of blocks. `read(n)` gives its next n bytes, fewer only at the end of the file.

    Raises StreamError for a stream of another codec, and as `BlockReader` does.
    """

    def __init__(self, codec: Codec, digest: str, read: Callable[[int], bytes]) -> None:
        recordings.check_codes(codec)
        self._codec = codec.eval()
        self._reader = BlockReader(read)
        header = self._reader.header
        sizes = (header.sample_rate, header.hop, header.factors)
        recordings.check_own(codec, digest, header.identity, sizes)
        _check_pieces(codec)

    @property
    def taken(self) -> int:
        """Bytes read so far."""
        return self._reader.taken

    def parts(self) -> Iterator[Tensor]:
        """Audio [samples] float32 of each block, a few frames late, and of the end: the very values of
        `codec.reconstruct`, see `codec.pieces`."""
        quantizer = self._codec.quantizer
        decoder = PieceDecoder(self._codec)
        period, frames = pieces.period(self._codec), 0
        for factors in self._reader.blocks(quantizer.factor_sizes, quantizer.factor_strides):
            if frames % period:
                raise StreamError("it is damaged: a block begins within a period of its codes")
            frames += len(factors)
            yield decoder.feed(quantizer.from_factors(torch.from_numpy(factors)[None]))
        samples, hop = self._reader.samples, self._codec.hop
        if (
            not max(0, frames - SPARE_FRAMES - 1) * hop <= samples <= frames * hop
            or samples < decoder.samples
        ):
            raise StreamError(f"it is damaged: {frames} frames are no recording of {samples} samples")
        yield decoder.finish(samples)


def _check_pieces(codec: Codec) -> None:
    try:
        pieces.check_pieces(codec)
    except PiecesError as error:
        raise StreamError(f"this codec cannot code a recording in blocks: {error}") from None
