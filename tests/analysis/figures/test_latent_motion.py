import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.figures.cells.animation import AnimationError, has_ffmpeg, write_animation
from analysis.figures.cells.grids import planar_grids
from analysis.figures.cells.motion import MotionError, before_and_after_figure, movement_frame, pictures
from analysis.figures.style import style
from quantizers.geometry.views import LevelGrid

START = np.random.default_rng(0).normal(size=(200, 2))
MOVED = START + np.array([0.3, 0.4])
SNAPSHOTS = {"steps": np.array([0, 5, 50]), "pair_0": np.stack([START, MOVED, START * 2])}


def test_movement() -> None:
    frame = movement_frame(SNAPSHOTS)
    assert list(frame["step"]) == [0, 5, 50]
    assert frame["moved"].tolist()[:2] == [0.0, pytest.approx(0.5)]
    np.testing.assert_allclose(frame["spread_x"] / START[:, 0].std(), [1, 1, 2])


def test_before_and_after() -> None:
    with style("paper") as scale:
        figure = before_and_after_figure(LevelGrid((5, 5), "fsq"), SNAPSHOTS, scale=scale)
    titles = [axes.get_title() for axes in figure.axes[:3]]
    assert [title.split(":")[0] for title in titles] == ["before training", "after 5 steps", "after 50 steps"]
    one = {"steps": np.array([0]), "pair_0": START[None]}
    with pytest.raises(MotionError, match="1 snapshots"):
        before_and_after_figure(LevelGrid((5, 5), "fsq"), one)


def test_animation(tmp_path: Path) -> None:
    (grid,) = planar_grids("q2d2-hex", (5, 5))
    for name in ("a", "b"):
        with style("web") as scale:
            shown = list(pictures(grid, SNAPSHOTS, title="hex", scale=scale, dpi=40))
        write_animation(shown, tmp_path / f"{name}.gif")
    assert (tmp_path / "a.gif").read_bytes() == (tmp_path / "b.gif").read_bytes()
    with Image.open(tmp_path / "a.gif") as read:
        assert read.n_frames == 3
        assert read.convert("RGB").getpixel((1, 1)) == (255, 255, 255)
    assert not np.array_equal(shown[0], shown[1])
    with pytest.raises(AnimationError, match=r"gif or a \.mp4"):
        write_animation(shown, tmp_path / "a.avi")


def test_mp4_without_ffmpeg_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(AnimationError, match="ffmpeg"):
        write_animation([np.zeros((4, 4, 3), np.uint8)], tmp_path / "a.mp4")


@pytest.mark.skipif(not has_ffmpeg(), reason="ffmpeg is not installed")
def test_mp4(tmp_path: Path) -> None:
    shown = [np.full((31, 45, 3), value, np.uint8) for value in (0, 128, 255)]
    first, second = (write_animation(shown, tmp_path / name).read_bytes() for name in ("a.mp4", "b.mp4"))
    assert first == second
    assert b"ftyp" in first[:16]
