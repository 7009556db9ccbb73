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
    "rate-distortion-references": "The same beside codecs from outside.",
    "bd-rates": "Mean difference in bitrate at equal quality (Bjontegaard); the 95 % is of all together.",
    "robustness": "Quality under disturbance: codes replaced, lost or shuffled, recoding, noise, gain.",
    "learning-curves": "Training and validation: mean of seeds, band from the least to the greatest.",
    "budgets": "Quality at several budgets of one training: mean and range of seeds, against steps and "
    "against time, and paired differences to the best at the last budget with 95 % intervals over seeds.",
    "code-ranks": "Use of each code by its rank; the dashed line is uniform use.",
    "code-histograms": "How many codes are used how much.",
    "utilisation": "Use of the codebooks against their size.",
    "cost": "Quality against cost; the line joins the systems that no other beats in both.",
    "utterances": "The two best quantizers, utterance by utterance.",
    "differences": "Paired differences to the best quantizer.",
    "ranks": "Average ranks of trainings, with the critical difference.",
    "spectrograms": "One utterance through every system.",
}


def caption(name: str) -> str:
    """The caption of the figure `name`: that of the longest beginning known, or else the name itself."""
    known = max((key for key in CAPTIONS if name.startswith(key)), key=len, default=None)
    return CAPTIONS[known] if known else name.replace("-", " ") + "."
