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
    "rate-distortion-coded": "Quality against the measured rate of entropy-coded files with 95 % intervals.",
    "rate-distortion-references": "Quality against bitrate with 95 % intervals, with codecs by others.",
    "bd-rates": "Mean difference in bitrate at equal quality (Bjontegaard), with simultaneous 95 % "
    "intervals. A filled marker means that the interval excludes 0.",
    "robustness": "Quality under disturbance: codes replaced, lost or shuffled, recoding, noise, gain.",
    "learning-curves": "Training and validation: mean over seeds; the band spans the lowest to the highest.",
    "budgets": "Quality at several budgets of one training: mean and range of seeds, against steps and "
    "against time, and paired differences to the best at the last budget with 95 % intervals over seeds.",
    "code-ranks": "Use of each code by its rank, one line per factor (a stage, a pair, a channel). Only "
    "systems with factors of equal size are comparable. The dashed line is uniform use.",
    "code-histograms": "Number of codes of a factor by how often they are used.",
    "utilisation": "Share of codes used against codebook size; bars span the smallest to the largest seed.",
    "cost": "Quality against cost. The line joins the systems that no other system beats in both; horizontal "
    "bars span the smallest to the largest training.",
    "utterances": "The two best quantizers, compared utterance by utterance.",
    "differences": "Paired differences to the best quantizer, with 95 % intervals that are corrected for all "
    "pairs. A filled marker is significantly different from the best.",
    "effects": "The contrasts of the study, each with its own 95 % interval. A grey diamond is what "
    "theory gives to the shape of the cells alone: the bits that they save, times the slope of quality by "
    "rate.",
    "channels": "Quality against the number of channels of grids and lattices, with 95 % intervals; a line "
    "joins the systems of one rate. If they lie near one curve, the channels explain more than the cells.",
    "signal-to-noise": "Quality against the signal-to-noise ratio of the quantized features of one frozen "
    "encoder, with 95 % intervals; a line joins the systems of one rate. Where a higher ratio has a worse "
    "quality, quality depends on more than the squared error.",
    "ranks": "Average ranks over trainings, with the critical difference.",
    "spectrograms": "One utterance, decoded by every system.",
}


def caption(name: str, about: str = "") -> str:
    """The caption of the figure `name`: that of the longest beginning known, or else the name itself.

    about: the system or the rate that it shows, put before the caption.
    """
    known = max((key for key in CAPTIONS if name.startswith(key)), key=len, default=None)
    text = CAPTIONS[known] if known else name.replace("-", " ") + "."
    return f"{about}: {text}" if about else text
