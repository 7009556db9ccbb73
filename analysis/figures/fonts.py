"""A small copy of DejaVu Sans for the figures.

A PDF holds the letters that it shows, and choosing them takes longer the more letters the font has: of all
6000 it takes nearly half of the time of a small figure. The copy has what labels are made of; letters that it
lacks are taken from the font itself.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from experiments.common.atomic_files import replacing

FULL = "DejaVu Sans"
SMALL = "DejaVu Sans Labels"
_FILES = {"DejaVuSans.ttf": "Regular", "DejaVuSans-Bold.ttf": "Bold"}
_LETTERS = (
    "".join(map(chr, (*range(0x20, 0x7F), *range(0xA0, 0x100), *range(0x391, 0x3CA)))) + "–—‘’“”…−≈≤≥←↑→↓²³"
)


@cache
def families() -> tuple[str, ...]:
    """Names of font families for matplotlib, the first one first. Makes the copy where it is missing."""
    import matplotlib
    from matplotlib import font_manager

    folder = Path(matplotlib.get_cachedir())
    for name, weight in _FILES.items():
        path = folder / f"codecbench-{matplotlib.__version__}-{name}"
        if not path.exists():
            try:
                _copy(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, weight, path)
            except OSError:  # a full disk: slower, and all the same
                return (FULL,)
        font_manager.fontManager.addfont(path)
    return SMALL, FULL


def _copy(source: Path, weight: str, target: Path) -> None:
    """Write the letters of `source` to `target`, at once, since other processes may do the same."""
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    options = Options(layout_features=[], legacy_kern=True, hinting=True, notdef_outline=True)
    options.drop_tables += ["FFTM", "GDEF", "GPOS", "GSUB"]
    with TTFont(source) as font:
        subsetter = Subsetter(options)
        subsetter.populate(text=_LETTERS)
        subsetter.subset(font)
        for number, text in {
            1: SMALL,
            2: weight,
            4: f"{SMALL} {weight}",
            6: f"DejaVuSansLabels-{weight}",
        }.items():
            font["name"].setName(text, number, 3, 1, 0x409)
            font["name"].setName(text, number, 1, 0, 0)
        with replacing(target) as partial:
            font.save(partial)
