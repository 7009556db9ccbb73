"""Moving pictures: GIF, and MP4 where ffmpeg is installed, with the same bytes for the same pictures."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np

SECONDS = 0.7  # that a picture is shown
LAST_SECONDS = 2.0
_COLOURS = 64


class AnimationError(ValueError):
    """A moving picture that can't be written; the message says why."""


def has_ffmpeg() -> bool:
    """Whether MP4 can be written."""
    return shutil.which("ffmpeg") is not None


def write_animation(pictures: Iterable[np.ndarray], path: Path) -> Path:
    """Write `pictures`, `[height, width, 3]` uint8 each, to `path`, a .gif or a .mp4.

    Raises:
        AnimationError: another suffix, or ffmpeg is missing or fails.
    """
    frames = list(pictures)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gif":
        _gif(frames, path)
    elif path.suffix == ".mp4":
        _mp4(frames, path)
    else:
        raise AnimationError(f"{path.name}: an animation is a .gif or a .mp4")
    return path


def _gif(frames: list[np.ndarray], path: Path) -> None:
    from PIL import Image

    # One palette for all, made of all, so that no colour flickers.
    palette = Image.fromarray(np.concatenate(frames)).quantize(_COLOURS)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) >= 250] = 255  # the page stays white
    palette.putpalette(colours.ravel().tolist())
    images = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    times = [round(1000 * SECONDS)] * (len(frames) - 1) + [round(1000 * LAST_SECONDS)]
    images[0].save(path, save_all=True, append_images=images[1:], duration=times, loop=0, optimize=False)


def _mp4(frames: list[np.ndarray], path: Path) -> None:
    program = shutil.which("ffmpeg")
    if program is None:
        raise AnimationError(f"{path.name}: MP4 needs ffmpeg, which is not on the PATH; write a .gif instead")
    height, width = frames[0].shape[:2]
    held = [*frames, *[frames[-1]] * round(LAST_SECONDS / SECONDS - 1)]
    command = [
        *(program, "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"),
        *("-s", f"{width}x{height}", "-r", f"{1 / SECONDS:.6f}", "-i", "-"),
        *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2:color=white", "-c:v", "libx264", "-pix_fmt", "yuv420p"),
        *("-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact", str(path)),
    ]
    done = subprocess.run(
        command, input=b"".join(frame.tobytes() for frame in held), capture_output=True, check=False
    )
    if done.returncode:
        raise AnimationError(f"{path.name}: ffmpeg failed: {done.stderr.decode(errors='replace')[-300:]}")
