"""Long recordings in pieces are what they are as a whole, to the bit."""

import pytest
import torch

import quantizers
from codec import backbones, model
from codec.model import Codec
from codec.pieces import PieceDecoder, PieceEncoder, PiecesError, check_pieces


def codec_of(backbone: str, name: str, **options: object) -> Codec:
    made = model.build(
        backbones.get(backbone), lambda dim: quantizers.create(name, dim=dim, **options), seed=0
    )
    return made.eval()


def tone(samples: int) -> torch.Tensor:
    time = torch.arange(samples) / 16_000
    noise = torch.randn(samples, generator=torch.Generator().manual_seed(samples))
    return 0.3 * torch.sin(2 * torch.pi * (150 + 40 * time) * time) + 0.02 * noise


CODECS = [
    ("mdct-tiny", "fsq", {"bits": 14}),
    ("mdct-tiny", "multiscale-rvq", {"codebook_size": 32}),
    ("soundstream", "rvq", {"codebook_size": 32}),
]


@pytest.mark.parametrize(("backbone", "name", "options"), CODECS)
@pytest.mark.parametrize("samples", [1, 700, 33_333])
@pytest.mark.parametrize(("seconds", "part"), [(0.5, 1000), (0.9, 5), (0.3, 40_000)])
def test_pieces_are_the_whole(
    backbone: str, name: str, options: dict[str, object], samples: int, seconds: float, part: int
) -> None:
    if part == 5 and samples > 700:
        part = 4_321
    codec = codec_of(backbone, name, **options)
    audio = tone(samples)
    encoder = PieceEncoder(codec, seconds)
    coded = [encoder.feed(one) for one in audio.split(part)]
    coded.append(encoder.finish())
    codes = torch.cat(coded, 1)
    assert torch.equal(codes, codec.encode(audio[None]))
    assert encoder.samples == samples
    decoder = PieceDecoder(codec, seconds)
    whole = codec.reconstruct(audio[None])[0]
    heard = [decoder.feed(one) for one in codes.split(60, 1)]
    assert decoder.samples == sum(map(len, heard)) <= samples
    heard.append(decoder.finish(samples))
    assert torch.equal(torch.cat(heard), whole)
    if samples > 20_000:
        assert sum(len(one) > 0 for one in heard) > 2  # it did come in pieces


def test_a_reach_is_as_wide_as_said_and_no_wider() -> None:
    """A frame changes with the farthest frame that it is said to depend on, and with none beyond."""
    for backbone, frames in (("mdct-tiny", 40), ("soundstream", 60)):
        codec = codec_of(backbone, "fsq", bits=14)
        place = frames // 2
        for network, width in ((codec.encoder, codec.hop), (codec.decoder, codec.quantizer.dim)):
            shape = (1, frames * width) if network is codec.encoder else (1, frames, width)
            given = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
            made = network(given)
            made = (
                made[:, place] if network is codec.encoder else made[:, place * codec.hop :][:, : codec.hop]
            )
            made.square().sum().backward()
            seen = given.grad.view(frames, width).abs().sum(1).nonzero().flatten()
            reach = network.reach
            # A window of an MDCT ends where the samples of the farthest frame begin, with a weight near 0.
            assert place - reach.before <= int(seen.min()) <= place - reach.before + 1
            assert int(seen.max()) == place + reach.after


def test_codecs_that_look_at_everything_are_refused() -> None:
    with pytest.raises(PiecesError, match="has no bounded reach"):
        check_pieces(codec_of("wavtokenizer-small", "fsq", bits=14))
    with pytest.raises(PiecesError, match="'trellis' searches the codes of all frames"):
        check_pieces(codec_of("mdct-tiny", "trellis", bits=14, over="time"))
