"""Print what each quantizer reaches by its start alone, before any training.

`python -m quantizers.checks.start_table --bits 40` for the table of docs/quantizers.md; with `--channels fit
--allocation water-filling` what channels that fit the features add.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from quantizers import registry
from quantizers.contract import Quantizer
from quantizers.option_checks import QuantizerError


def gauss_markov(frames: int, dim: int, correlation: float, seed: int) -> Tensor:
    """Frames [frames, dim] of a Gaussian source of unit variance, neighbouring values correlated."""
    lags = torch.arange(dim, dtype=torch.float64)
    root = torch.linalg.cholesky(correlation ** (lags[:, None] - lags).abs())
    normal = torch.randn(frames, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (normal @ root.mT).float()


def signal_to_noise(quantizer: Quantizer, frames: Tensor) -> float:
    """Decibels in eval mode on `frames` [frames, dim], which have a mean of 0."""
    training = quantizer.training
    with torch.no_grad():
        error = (quantizer.eval()(frames.unsqueeze(0)).features[0] - frames).square().mean()
    quantizer.train(training)
    return -10 * math.log10(max(float(error / frames.square().mean()), 1e-30))


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="registered names; all by default")
    parser.add_argument("--bits", type=float, default=40.0, help="bits per frame")
    parser.add_argument("--dim", type=int, default=64, help="values per frame")
    parser.add_argument("--correlation", type=float, default=0.98, help="of neighbouring values")
    parser.add_argument("--frames", type=int, default=20_000, help="to start from; as many others to test on")
    parser.add_argument("--channels", help="paper, fit or a number, where levels are chosen")
    parser.add_argument("--allocation", help="even or water-filling, where levels are chosen")
    given = parser.parse_args(arguments)
    channels = int(given.channels) if given.channels and given.channels.isdigit() else given.channels
    asked = {"channels": channels, "allocation": given.allocation}
    torch.set_num_threads(1)
    frames, fresh = (gauss_markov(given.frames, given.dim, given.correlation, seed) for seed in (1, 2))
    print(f"{'quantizer':22} {'bits':>6} {'random, dB':>11} {'started, dB':>12} {'seconds':>8}  channels")
    for name in given.names or registry.available():
        torch.manual_seed(0)
        taken = registry.entry(name).cls.fit_options
        options = {key: value for key, value in asked.items() if value is not None and key in taken}
        try:
            options = registry.fit_options(
                name, dim=given.dim, bits=given.bits, options=options, features=frames
            )
            quantizer = registry.create(name, dim=given.dim, **options)
        except QuantizerError as error:
            print(f"{name:22} {error}")
            continue
        if not quantizer.streams:
            continue
        before, begun = signal_to_noise(quantizer, fresh), time.perf_counter()
        quantizer.start(frames)
        seconds = time.perf_counter() - begun
        after = signal_to_noise(quantizer, fresh)
        number = len(options["levels"]) if "levels" in options else "-"
        row = f"{name:22} {quantizer.bits_per_frame:6.2f} {before:11.2f} {after:12.2f} {seconds:8.1f}"
        print(f"{row}  {number}", flush=True)


if __name__ == "__main__":
    main()
