"""Rates of the rows of a study, from live modules."""

from collections.abc import Sequence
from dataclasses import dataclass

import quantizers
from codec import backbones
from experiments.common.matched_rates import matched
from experiments.studies.prefix_rows import prefix_rows
from experiments.studies.study import Study, StudyError, asked_of_features, configuration


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Nominal rate of a row. bitrate: bit/s. token_rate: tokens per second, of all streams. asked: the bit/s
    that the study asks for there, if any. about: whether features will decide the levels, so that the rate is
    known within 2 % only. trained: whether it is the rate of all stages that are trained, not of the first of
    them alone."""

    label: str
    bits_per_frame: float
    bitrate: float
    token_rate: float
    target: float | None = None
    about: bool = False
    trained: bool = True


def row_rates(study: Study) -> list[Rate]:
    """The rate of each row, from live modules. `none` spends no bits and is left out.

    Raises StudyError where a quantizer cannot be for the features of its backbone.
    """
    rates = []
    for cell in study.cells():
        backbone = backbones.get(cell.backbone.name, cell.backbone.options)
        for choice in cell.quantizers:
            try:
                quantizer = quantizers.build(choice.name, configuration(cell, choice), dim=backbone.dim)
            except quantizers.QuantizerError as error:
                raise StudyError(f"{study.name}: {choice.row}: {error}") from None
            if not quantizer.streams:
                continue
            for row in prefix_rows(study, cell, choice):
                part = quantizer.prefix(row.stages)
                rates.append(_fewer(row.label, part, backbone.frame_rate))
            bits = quantizer.bits_per_frame
            target = cell.bitrate or (cell.bits or choice.bits or 0.0) * backbone.frame_rate
            rates.append(
                Rate(
                    label=choice.row,
                    bits_per_frame=bits,
                    bitrate=bits * backbone.frame_rate,
                    token_rate=backbone.frame_rate * quantizer.tokens_per_frame,
                    target=target or None,
                    about=asked_of_features(cell, choice) is not None,
                )
            )
    return rates


def _fewer(label: str, quantizer: quantizers.Quantizer, frame_rate: float) -> Rate:
    bits = quantizer.bits_per_frame
    return Rate(
        label=label,
        bits_per_frame=bits,
        bitrate=bits * frame_rate,
        token_rate=frame_rate * quantizer.tokens_per_frame,
        trained=False,
    )


def unmatched(rates: Sequence[Rate]) -> dict[str, float]:
    """Distances of the rows that tables set apart from the rate of those they were to stand beside, as
    fractions, by label.

    The groups are those of tables (`common.matched_rates`). A row is unmatched where it is alone in its
    group, or where most of the rows that ask for the same rate are in another group. Rows of fewer stages
    than were trained are meant to have other rates, and are not looked at.
    """
    rates = [rate for rate in rates if rate.trained]
    by_rate = matched({rate.label: rate.bitrate for rate in rates})
    bitrate = {rate.label: rate.bitrate for rate in rates}
    same_target: dict[float | None, set[str]] = {}
    for rate in rates:
        same_target.setdefault(rate.target, set()).add(rate.label)
    off = dict(by_rate.alone)
    for peers in same_target.values():
        home = max(by_rate.groups, key=lambda group: len(peers.intersection(group)))
        if len(peers) < 2 or not peers.intersection(home):
            continue
        centre = sum(bitrate[label] for label in home) / len(home)
        off |= {label: bitrate[label] / centre - 1 for label in peers if label not in home}
    return {rate.label: off[rate.label] for rate in rates if rate.label in off}
