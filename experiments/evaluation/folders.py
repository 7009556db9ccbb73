"""Scoring of decoded audio in files, each at the rate of the reconstruction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.evaluation.audio_pairs import ClipFiles, Pairs, sample_rate_of
from experiments.evaluation.scores import Progress, score

if TYPE_CHECKING:
    import pandas as pd


def by_sample_rate(pairs: Pairs) -> dict[int, list[str]]:
    """Utterances by the rate in Hz of their reconstruction (or reference, where it cannot be read)."""
    rates: dict[int, list[str]] = {}
    for utterance, reference in pairs.references.items():
        path = pairs.reconstructions.get(utterance, reference)
        rate = sample_rate_of(path) or sample_rate_of(reference) or 16000
        rates.setdefault(rate, []).append(utterance)
    return rates


def score_pairs(
    pairs: Pairs,
    metric_names: Sequence[str],
    *,
    workers: int = 1,
    progress: Progress | None = None,
    reference_cache: Path | None = None,
) -> pd.DataFrame:
    """The frame of `evaluate.score` for files, with a column `sample_rate`.

    Channels are averaged, and references are brought to the rate of their reconstruction. A file that cannot
    be read is a status.
    """
    import pandas as pd

    frames, before = [], 0
    for rate, utterances in by_sample_rate(pairs).items():

        def report(done: int, _: int, before: int = before) -> None:
            if progress is not None:
                progress(before + done, len(pairs.references))

        frame = score(
            ClipFiles({name: pairs.references[name] for name in utterances}, rate),
            ClipFiles({n: pairs.reconstructions[n] for n in utterances if n in pairs.reconstructions}, rate),
            rate,
            metric_names,
            workers=workers,
            progress=report,
            reference_cache=reference_cache,
        )
        frames.append(frame.assign(sample_rate=rate))
        before += len(utterances)
    return pd.concat(frames, ignore_index=True)
