"""Files that a run leaves in the tracking store."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_audio(
    folder: Path, audio: Mapping[str, tuple[np.ndarray, np.ndarray]], count: int, sample_rate: int
) -> None:
    """`count` pairs of (reference, reconstruction), as `folder/audio/<name>.<side>.flac`.

    They are spread evenly over the test split, so that every system of a study keeps the same ones and
    neighbours, often of one speaker, don't crowd out the others. `utterances.json` has the name that each
    file's utterance has in the scores.
    """
    import soundfile

    (folder / "audio").mkdir()
    names = list(audio)
    places = np.linspace(0, len(names), min(count, len(names)), endpoint=False).astype(int)
    kept = {}
    for number, name in enumerate(names[place] for place in places):
        plain = "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "-" for c in Path(name).stem)
        kept[f"{number:02d}-{plain[:60]}"] = name
        for kind, samples in zip(("reference", "reconstruction"), audio[name], strict=True):
            path = folder / "audio" / f"{number:02d}-{plain[:60]}.{kind}.flac"
            soundfile.write(path, np.clip(samples, -1, 1), sample_rate)
    text = json.dumps(kept, indent=1, ensure_ascii=False)
    (folder / "audio" / "utterances.json").write_text(text, encoding="utf-8")
