"""Files that a run leaves in the tracking store."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_audio(
    folder: Path, audio: Mapping[str, tuple[np.ndarray, np.ndarray]], count: int, sample_rate: int
) -> None:
    """The first `count` pairs of (reference, reconstruction), as `folder/audio/<name>.<side>.flac`."""
    import soundfile

    (folder / "audio").mkdir()
    for number, (name, pair) in enumerate(list(audio.items())[:count]):
        plain = "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "-" for c in Path(name).stem)
        for kind, samples in zip(("reference", "reconstruction"), pair, strict=True):
            path = folder / "audio" / f"{number:02d}-{plain[:60]}.{kind}.flac"
            soundfile.write(path, np.clip(samples, -1, 1), sample_rate)
