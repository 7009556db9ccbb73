"""A folder of recordings through a reference codec, for scoring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.evaluation.audio_pairs import ClipFiles, Pairs, sample_rate_of
from experiments.evaluation.scores import Progress

if TYPE_CHECKING:
    from codec.references import Reference


def reconstruct_files(
    codec: Reference,
    references: Mapping[str, Path],
    folder: Path,
    progress: Progress | None = None,
    *,
    device: str = "cpu",
) -> tuple[Pairs, float | None]:
    """Decode every recording into `folder`, each at its own rate; the pairs, and the measured bit/s.

    A recording that cannot be read has no reconstruction. The bitrate is None for a control that codes
    nothing. device: where a network of torch computes. Raises ReferenceUnavailable.
    """
    import soundfile

    codec.prepare(device)
    made: dict[str, Path] = {}
    bits, seconds = None, 0.0
    for number, (name, path) in enumerate(references.items()):
        rate = sample_rate_of(path)
        try:
            clip = ClipFiles({name: path}, rate or 16_000)[name]
        except OSError:
            continue  # scoring says why
        finally:
            if progress is not None:
                progress(number + 1, len(references))
        if not rate:
            continue
        decoded = codec.reconstruct(clip, rate)
        made[name] = folder / f"{number:06d}.wav"
        soundfile.write(made[name], decoded.audio, rate, subtype="FLOAT")
        seconds += len(clip) / rate
        if decoded.bits is not None:
            bits = (bits or 0) + decoded.bits
    return Pairs(dict(references), made), None if bits is None or not seconds else bits / seconds
