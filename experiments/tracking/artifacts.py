"""Files that runs leave in the tracking store: their names, and which of them a finished run has."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from experiments.common import run_folder
from experiments.tracking.schema import Tag

UTTERANCES = "utterances.parquet"  # every score of every utterance
CONFIG = "config.yaml"  # what was run
USAGE = "usage.json"  # use of the codes
HISTOGRAMS = "histograms.npz"  # `factor_0` and so on: counts of codes; `pair_0`: of joint codes
LATENTS = "latents.npz"  # `pair_0` and so on: points before quantization
SLICES = "slices.npz"  # `<field>_<group>`: learned codebooks in their principal planes
SNAPSHOTS = run_folder.SNAPSHOTS  # `steps`, `pair_0` and so on: latents while training
ERROR = "error.txt"  # why a run failed, with the traceback
AUDIO = "audio"  # folder of examples, with
AUDIO_NAMES = f"{AUDIO}/utterances.json"  # the name in the scores of each
CHECKPOINT = "checkpoint"  # folder of what a training left beside its weights

ARRAYS = (HISTOGRAMS, LATENTS, SLICES, SNAPSHOTS)


def needed(tags: Mapping[str, str]) -> tuple[str, ...]:
    """Files that a finished run with these tags has by construction."""
    if tags.get(Tag.ADDED) == "true":  # scored by `codecbench evaluate --study`
        return (UTTERANCES,)
    if tags.get(Tag.REFERENCE) == "true":
        return (UTTERANCES, CONFIG)
    return (UTTERANCES, CONFIG, USAGE)


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
    (folder / AUDIO_NAMES).write_text(text, encoding="utf-8")
