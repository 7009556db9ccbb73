"""Captions of figures: a sentence for each, by the beginning of its file name."""

CAPTIONS = {
    "voronoi": "Voronoi cells of each pair of channels, their use, and the latents of the test set, with the "
    "share of latents beyond the centres of the outermost cells, in red where a channel is saturated.",
    "voronoi-slice": "Cells of a learned codebook, cut by the plane of its first two principal components.",
    "voronoi-tilings": "The tilings side by side at one bitrate: cells, their use, and the latents, with the "
    "share of latents beyond the centres of the outermost cells, in red where a channel is saturated.",
    "voronoi-training": "Cells and latents before, early in and after training.",
    "lattice": "Cells of the lattice.",
    "rate-distortion": "Quality against bitrate with 95 % intervals.",
    "rate-distortion-coded": "Quality against the measured rate of entropy-coded files, with 95 % intervals.",
    "rate-distortion-references": "The same beside codecs from outside.",
    "bd-rates": "Mean difference in bitrate at equal quality (Bjontegaard). The intervals hold together at "
    "95 %; a filled marker leaves 0 out.",
    "robustness": "Quality under disturbance: codes replaced, lost or shuffled, recoding, noise, gain.",
    "learning-curves": "Training and validation: mean of seeds, band from the least to the greatest.",
    "budgets": "Quality at several budgets of one training: mean and range of seeds, against steps and "
    "against time, and paired differences to the best at the last budget with 95 % intervals over seeds.",
    "code-ranks": "Use of each code by its rank, a line a factor (a stage, a pair, a channel), so that only "
    "systems with factors of one size compare; the dashed line is uniform use.",
    "code-histograms": "How many codes of a factor are used how much.",
    "utilisation": "Use of the codebooks against their size; bars reach from the least to the greatest seed.",
    "cost": "Quality against cost; the line joins the systems that no other beats in both, and bars sideways "
    "reach from the least to the greatest training.",
    "utterances": "The two best quantizers, utterance by utterance.",
    "differences": "Paired differences to the best quantizer, with 95 % intervals that are corrected for all "
    "pairs: a filled marker differs from the best.",
    "effects": "The differences that the study was made for, each with its own 95 % interval. A grey diamond "
    "is what theory gives to the shape of the cells alone: the bits that they save, times the slope of "
    "quality by rate.",
    "ranks": "Average ranks of trainings, with the critical difference.",
    "spectrograms": "One utterance through every system.",
}


def caption(name: str, about: str = "") -> str:
    """The caption of the figure `name`: that of the longest beginning known, or else the name itself.

    about: the system or the rate that it shows, put before the caption.
    """
    known = max((key for key in CAPTIONS if name.startswith(key)), key=len, default=None)
    text = CAPTIONS[known] if known else name.replace("-", " ") + "."
    return f"{about}: {text}" if about else text
