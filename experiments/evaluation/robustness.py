"""Quality under disturbance: codes hit by errors, coding again, noise and gain before the encoder."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from codec.float32 import full_precision
from codec.model import Codec
from experiments.evaluation.scores import score
from experiments.evaluation.test_set import summarise
from experiments.studies.sections import Robustness

if TYPE_CHECKING:
    from experiments.data.dataset import Split

KINDS = ("flips", "drops", "reencodings", "noise", "gain", "shuffles")  # their order seeds the noise
NEED_CODES = ("flips", "drops", "shuffles")
UNDISTURBED = "undisturbed"  # severity 0 of every kind but noise, on the same utterances


def conditions(asked: Robustness, *, coded: bool) -> Iterator[tuple[str, float]]:
    """(kind, severity) of all to measure, undisturbed first; without codes, what hits codes is left out."""
    yield UNDISTURBED, 0.0
    for kind in KINDS:
        if coded or kind not in NEED_CODES:
            for severity in getattr(asked, kind):
                yield kind, float(severity)


@full_precision()
@torch.inference_mode()
def disturbed(codec: Codec, clip: np.ndarray, kind: str, severity: float, seed: int) -> np.ndarray:
    """`clip` [samples] through `codec` under a disturbance; as long, and at the gain of `clip`.

    flips: percent of codes replaced by another one, drawn uniformly. drops: percent of frames lost, the last
    one received standing in for each. shuffles: percent of frames that change places among themselves, each
    code used as often as before. Where streams have strides, a token is in the first frame of its block, and
    shuffles move whole periods of the blocks. reencodings: how many times the result is coded again.
    noise: white, added to the input at a signal-to-noise ratio in dB. gain: of the input in dB, taken back
    afterwards.
    The same `seed` draws the same noise for every codec.
    """
    number = KINDS.index(kind) if kind in KINDS else len(KINDS)
    random = np.random.default_rng([seed, number, round(1000 * abs(severity))])
    device = next(codec.parameters()).device
    factor = 10 ** (severity / 20) if kind == "gain" else 1.0
    signal = np.asarray(clip, dtype=np.float32) * np.float32(factor)
    if kind == "noise":
        noise = random.standard_normal(len(clip))
        power = float(np.mean(np.square(clip, dtype=np.float64))) / float(np.mean(noise**2))
        signal = signal + (noise * np.sqrt(power * 10 ** (-severity / 10))).astype(np.float32)
    audio = torch.from_numpy(signal)[None].to(device)
    if kind in NEED_CODES:
        codes = codec.encode(audio)
        period = math.lcm(*codec.quantizer.stream_strides)
        hits: dict[str, Callable[..., torch.Tensor]] = {
            "flips": flip,
            "drops": drop,
            "shuffles": partial(shuffle, period=period),
        }
        out = codec.decode(hits[kind](codes, codec.quantizer.codebook_sizes, severity / 100, random))
    else:
        out = codec.reconstruct(audio)
        for _ in range(int(severity) if kind == "reencodings" else 0):
            out = codec.reconstruct(out)
    return np.asarray(out[0, : len(clip)].cpu().numpy() / np.float32(factor))


def flip(
    codes: torch.Tensor, sizes: tuple[int, ...], share: float, random: np.random.Generator
) -> torch.Tensor:
    """`codes` [batch, frames, streams], each with probability `share` replaced by another of its codebook."""
    hit = torch.from_numpy(random.random(codes.shape) < share).to(codes.device)
    bounds = np.asarray(sizes, dtype=np.int64)
    offsets = random.integers(1, np.maximum(bounds, 2), size=codes.shape)  # never 0: it is another code
    moved = (codes + torch.from_numpy(offsets).to(codes.device)) % torch.from_numpy(bounds).to(codes.device)
    return torch.where(hit, moved, codes)


def drop(
    codes: torch.Tensor, sizes: tuple[int, ...], share: float, random: np.random.Generator
) -> torch.Tensor:
    """`codes` with each frame lost with probability `share`: the last one received is repeated."""
    kept = random.random(codes.shape[1]) >= share
    kept[0] = True
    source = np.maximum.accumulate(np.where(kept, np.arange(len(kept)), 0))
    return codes[:, torch.from_numpy(source).to(codes.device)]


def shuffle(
    codes: torch.Tensor, sizes: tuple[int, ...], share: float, random: np.random.Generator, period: int = 1
) -> torch.Tensor:
    """`codes` with frames chosen with probability `share`, and these put into a random order.

    period: of so many frames, which move together; frames after the last whole one stay.
    """
    whole = codes.shape[1] // period
    chosen = np.flatnonzero(random.random(whole) < share)
    order = np.arange(whole)
    order[chosen] = random.permutation(chosen)
    source = np.arange(codes.shape[1])
    source[: whole * period] = (order[:, None] * period + np.arange(period)).ravel()
    return codes[:, torch.from_numpy(source).to(codes.device)]


def measure(
    codec: Codec,
    split: "Split",
    asked: Robustness,
    metrics: tuple[str, ...],
    check: Callable[[int, int], None],
    *,
    workers: int = 1,
) -> dict[str, float]:
    """`robustness/<kind>/<severity>/<metric>` with its interval and counts, over evenly spaced utterances;
    scored by `workers` processes."""
    codec.eval()
    chosen = np.unique(np.linspace(0, len(split) - 1, min(asked.utterances, len(split))).astype(int))
    references = {split.names[index]: split.clip(int(index)) for index in chosen}
    todo = list(conditions(asked, coded=codec.quantizer.streams > 0))
    values: dict[str, float] = {}
    for number, (kind, severity) in enumerate(todo):
        made = {}
        for index, (name, clip) in enumerate(references.items()):
            made[name] = disturbed(codec, clip, kind, severity, index)
            check(number, len(todo))
        scores = score(references, made, codec.sample_rate, asked.metrics or metrics, workers=workers)
        prefix = f"robustness/{kind}/{severity:g}/"
        values |= {prefix + key.removeprefix("eval/"): v for key, v in summarise(scores).items()}
        check(number + 1, len(todo))
    return values
