"""Draw docs/gallery.md and its pictures from the shipped study `gallery`.

    codecbench run gallery
    python docs/make_gallery.py

Pictures go to docs/gallery/ as `codecbench figures` draws them: SVG, and PNG in all its colours for what is
made of pixels.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

STUDY = "gallery"
HERE = Path(__file__).parent
ANCHOR = "fsq"  # of BD-rates: the curves of vq and rvq do not rise all the way in so short a training
PIXELS = ("spectrograms",)  # of which an SVG is larger than a PNG
WIDTH = 900  # most pixels across
HEAD = """# Gallery

Every figure of `codecbench figures`, and the two lines that make it in a notebook. Each is a function of a
frame that returns a matplotlib `Figure`; the frame is what the CSV beside a written figure holds.

```python
from pathlib import Path

import analysis

results = analysis.load("gallery")
run = results.finished.set_index("label").loc["q2d2-hex 19.1 bit"].iloc[0]
```

The pictures are made by `docs/make_gallery.py` from the shipped study
[gallery](../experiments/studies/shipped/gallery.yaml): three seeds, three rates, codecs of seconds of
training on synthetic speech. They show what the figures look like and not which quantizer is better.
"""
# File name, heading, what it shows, the two lines.
ENTRIES = (
    (
        "voronoi-tilings",
        "Three tilings at one rate",
        "The first pair of each; cells by use, dead ones hatched, latents, and each point's way to the mean "
        "of its latents. Without a study: `codecbench voronoi tilings --bits 6`.",
        "(drawn,) = analysis.voronoi_tilings(results)",
        'drawn.figure.savefig("tilings.pdf")',
    ),
    (
        "voronoi-q2d2-hex-19.1-bit",
        "Cells of one quantizer",
        "One panel a pair of channels. FSQ and rectangles are drawn alike.",
        "grids = analysis.grids_of(run)",
        'analysis.voronoi_figure(grids, results.histograms(run["run_id"]), results.latents(run["run_id"]))',
    ),
    (
        "voronoi-slice-vq-19.1-bit",
        "Slice of a learned codebook",
        "The plane of the codebook's first two principal components cuts its cells in a power diagram: a "
        "vector of the plane is coded by the code whose cell it lies in, exactly. Codes and latents are "
        "shown at their feet; a latent beside the plane may belong to another code.",
        "drawn = list(analysis.voronoi_slices(results))",
        "drawn[0].figure",
    ),
    (
        "voronoi-training-q2d2-hex-19.1-bit",
        "Before and after training",
        "Latents of fixed crops, as logged while training (`evaluate.snapshots`).",
        'snapshots = results.snapshots(run["run_id"])',
        "analysis.before_and_after_figure(analysis.grids_of(run)[0], snapshots)",
    ),
    (
        "voronoi-training-q2d2-hex-19.1-bit.gif",
        "Latents over training",
        "`codecbench figures STUDY --formats gif,mp4`; MP4 where ffmpeg is installed.",
        "frames = analysis.pictures(analysis.grids_of(run)[0], snapshots)",
        'analysis.write_animation(frames, Path("latents.gif"))',
    ),
    (
        "lattice-A3",
        "Cell of a lattice",
        "In three dimensions as a solid; `codecbench voronoi 'A3*'`.",
        "import analysis",
        'analysis.lattice_figure("A3*")',
    ),
    (
        "rate-distortion",
        "Rate-distortion curves",
        "95 % intervals over seeds and utterances.",
        "frame = analysis.summary(results)",
        "analysis.rate_distortion_figure(frame)",
    ),
    (
        "rate-distortion-references",
        "Rate-distortion curves beside references",
        "Codecs from outside in grey.",
        "frame = analysis.summary(results, references=True)",
        "analysis.rate_distortion_figure(frame)",
    ),
    (
        "bd-rates",
        "BD-rates",
        "With intervals, of the curves that overlap with the anchor's. The axis is logarithmic; a filled "
        "marker means that the interval excludes 0.",
        f'frame = analysis.bd_rates(results, "mel_distance", "{ANCHOR}")',
        "analysis.bd_figure(frame)",
    ),
    (
        "differences",
        "Paired differences",
        "Against the best system of the headline rate, with intervals that are corrected for all pairs; "
        "a filled marker differs from the best.",
        "frame = analysis.differences_to_best(results, analysis.coded_labels(results))",
        "analysis.difference_figure(frame)",
    ),
    (
        "ranks-pesq",
        "Critical differences",
        "Average ranks of trainings at all rates, with Nemenyi's critical difference.",
        'frame = analysis.ranks_across(results, "pesq")',
        "analysis.ranking_figure(frame)",
    ),
    (
        "utilisation",
        "Use against codebook size",
        "All codes of a frame together. Grey: what a uniform source would show in as many tokens.",
        "frame = analysis.sizes(results.finished)",
        "analysis.size_figure(frame)",
    ),
    (
        "code-histograms",
        "Histograms of code use",
        "How many codes are used how much; hatched: never.",
        "frame = analysis.use_histogram(results.usage)",
        "analysis.histogram_figure(frame)",
    ),
    (
        "code-ranks",
        "Rank and frequency of codes",
        "One line a factor.",
        "frame = analysis.ranks(results.usage)",
        "analysis.rank_figure(frame)",
    ),
    (
        "learning-curves",
        "Learning curves",
        "Mean of the seeds; a band from the least to the greatest.",
        "frame = analysis.curves(results.histories)",
        "analysis.learning_figure(frame)",
    ),
    (
        "robustness",
        "Robustness",
        "Quality against the severity of each disturbance.",
        "frame = analysis.robustness_frame(results)",
        "analysis.robustness_figure(frame)",
    ),
    (
        "cost",
        "Quality against cost",
        "The line joins systems that no other beats in both (Pareto). Bars sideways reach from the least "
        "to the greatest training.",
        'frame = analysis.cost_frame(results, "pesq")',
        "analysis.cost_figure(frame)",
    ),
    (
        "utterances-pesq",
        "Two quantizers, utterance by utterance",
        "The largest differences are named.",
        'frame = analysis.utterance_frame(results, "pesq", "vq 19.1 bit", "fsq 19.1 bit")',
        'analysis.utterance_figure(frame, "pesq")',
    ),
    (
        "spectrograms",
        "Spectrograms",
        "One utterance through every system of the headline rate.",
        "(drawn,) = analysis.spectrograms(results)",
        "drawn.figure",
    ),
)


def main() -> None:
    """Write the pictures and the page."""
    from analysis import bd_figure, bd_rates, lattice_figure, load
    from analysis.figures.drawn import file_name
    from analysis.figures.style import save, style
    from analysis.figures.writing import write_all

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--tracking-uri", help="store with the study; default MLFLOW_TRACKING_URI or ./mlflow.db"
    )
    given = parser.parse_args()
    results = load(STUDY, given.tracking_uri)
    gallery = HERE / "gallery"
    shutil.rmtree(gallery, ignore_errors=True)
    gallery.mkdir()
    with tempfile.TemporaryDirectory() as temporary:
        drawn = Path(temporary)
        write_all(results, drawn, style_name="paper", formats=["png", "svg", "gif"], data=False)
        with style("paper") as scale:
            save(lattice_figure("A3*", scale), drawn / f"lattice-{file_name('A3*')}", ["svg"])
            saved = bd_rates(results, "mel_distance", ANCHOR)
            save(bd_figure(saved, scale=scale), drawn / "bd-rates", ["svg"])
        for name, *_ in ENTRIES:
            file = picture_of(name)
            if not (drawn / file).exists():
                raise SystemExit(f"the study has no {file}; was it run to its end?")
            if file.endswith(".png"):
                shrink(drawn / file, gallery / file)
            else:
                shutil.copyfile(drawn / file, gallery / file)
    (HERE / "gallery.md").write_text(page(), encoding="utf-8")
    total = sum((gallery / file.name).stat().st_size for file in gallery.iterdir())
    print(f"wrote {HERE / 'gallery.md'}; {total / 1e6:.2f} MB of pictures")


def picture_of(name: str) -> str:
    """The file of an entry's picture."""
    if name.endswith(".gif"):
        return name
    return f"{name}.png" if name in PIXELS else f"{name}.svg"


def page() -> str:
    """The text of docs/gallery.md."""
    text = HEAD
    for name, heading, about, *lines in ENTRIES:
        code = ("\n\n" if lines[0].startswith(("from ", "import ")) else "\n").join(lines)
        text += f"\n## {heading}\n\n{about}\n\n```python\n{code}\n```\n"
        text += f"\n![{heading}](gallery/{picture_of(name)})\n"
    return text


def shrink(source: Path, target: Path) -> None:
    """Copy a PNG at most `WIDTH` across. All its colours stay: fewer turn one quantizer's into another's."""
    from PIL import Image

    with Image.open(source) as read:
        picture = read.convert("RGB")
    if picture.width > WIDTH:
        height = round(picture.height * WIDTH / picture.width)
        picture = picture.resize((WIDTH, height), Image.Resampling.LANCZOS)
    picture.save(target, optimize=True)


if __name__ == "__main__":
    main()
