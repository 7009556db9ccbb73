"""Artifacts: the files that a run leaves in the tracking store, by name, and how each is written."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from experiments.common.run_folder import SNAPSHOTS as SNAPSHOTS  # latents while training
from experiments.tracking.schema import Tag

if TYPE_CHECKING:
    import pandas as pd

    from experiments.tracking.store import Store

SCORES = "utterances.parquet"  # of each utterance by each metric
CONFIG = "config.yaml"  # of the run, in full
USAGE = "usage.json"  # of the codes, as `UsageCounter.report`
HISTOGRAMS = "histograms.npz"  # of the codes
LATENTS = "latents.npz"  # in grid units
SLICES = "slices.npz"  # of learned codebooks
AUDIO = "audio"  # a folder
AUDIO_NAMES = "utterances.json"  # in it: the utterance of each file
ERROR = "error.txt"  # the traceback of a run that failed
CHECKPOINT = "checkpoint"  # a folder: what a training leaves beside its weights

ARRAYS = (HISTOGRAMS, LATENTS, SLICES, SNAPSHOTS)


def needed(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Files that a finished run with these tags has by construction."""
    if tags.get(Tag.ADDED) == "true":  # scored by `codecbench evaluate --study`
        return (SCORES,)
    if tags.get(Tag.REFERENCE) == "true":
        return (SCORES, CONFIG)
    return (SCORES, CONFIG, USAGE)


@contextmanager
def logged(store: "Store", run_id: str) -> Iterator[Path]:
    """A folder whose files become artifacts of a run at the end. Raises TrackingError."""
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)
        store.log_files(run_id, Path(temporary))


def write_scores(folder: Path, scores: "pd.DataFrame", config: Mapping[str, Any] | None = None) -> None:
    """Scores of every utterance, and the configuration of the run where it has one."""
    scores.to_parquet(folder / SCORES, index=False)
    if config is not None:
        text = yaml.safe_dump(dict(config), sort_keys=False)
        (folder / CONFIG).write_text(text)


def write_codes(
    folder: Path,
    usage: Mapping[str, Any],
    histograms: Mapping[str, np.ndarray],
    latents: Mapping[str, np.ndarray],
    slices: Mapping[str, np.ndarray],
) -> None:
    """The use of codes, their histograms and, where the quantizer has them, latents and slices."""
    (folder / USAGE).write_text(json.dumps(usage, indent=1))
    for name, arrays in ((HISTOGRAMS, histograms), (LATENTS, latents), (SLICES, slices)):
        if arrays or name == HISTOGRAMS:
            np.savez_compressed(folder / name, **arrays)  # type: ignore[arg-type]


def write_audio(
    folder: Path, audio: Mapping[str, tuple[np.ndarray, np.ndarray]], count: int, sample_rate: int
) -> None:
    """`count` pairs of (reference, reconstruction), as `folder/audio/<name>.<side>.flac`.

    They are spread evenly over the test split, so that every system of a study keeps the same ones and
    neighbours, often of one speaker, don't crowd out the others. `utterances.json` has the name that each
    file's utterance has in the scores.
    """
    import soundfile

    (folder / AUDIO).mkdir()
    names = list(audio)
    places = np.linspace(0, len(names), min(count, len(names)), endpoint=False).astype(int)
    kept = {}
    for number, name in enumerate(names[place] for place in places):
        plain = "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "-" for c in Path(name).stem)
        kept[f"{number:02d}-{plain[:60]}"] = name
        for kind, samples in zip(("reference", "reconstruction"), audio[name], strict=True):
            path = folder / AUDIO / f"{number:02d}-{plain[:60]}.{kind}.flac"
            soundfile.write(path, np.clip(samples, -1, 1), sample_rate)
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    (folder / AUDIO / AUDIO_NAMES).write_text(text, encoding="utf-8")
