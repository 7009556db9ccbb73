"""Entropy-constrained training of a codec: the weight of the rate in steps, identities and studies."""

from pathlib import Path

import pytest
import torch

import quantizers
from codec import backbones, model
from experiments.studies import runs, study
from experiments.studies.runs import CorpusIdentity
from experiments.studies.sections import Train
from experiments.studies.study import StudyError
from experiments.training import distributed
from experiments.training.replicas import Replicas
from experiments.training.state import initial_state
from experiments.training.step import Update, step

CORPUS = CorpusIdentity(spec="demo", name="demo", content_hash="0" * 16, synthetic=True)


def trained(quantizer: str, weight: float, steps: int = 8) -> list[Update]:
    backbone = backbones.get("mdct-tiny", {"width": 16, "blocks": 1})
    codec = model.build(backbone, lambda dim: quantizers.create(quantizer, dim=dim, bits=20.0), seed=0)
    config = Train(steps=steps, warmup_steps=1, precision="fp32", rate_weight=weight, learning_rate=0.02)
    state = initial_state(codec, config, seed=0, device=torch.device("cpu"))
    replicas = Replicas(distributed.single(torch.device("cpu")), state, config)
    audio = 0.1 * torch.randn(2, 4_000, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    updates = []
    for _ in range(steps):
        updates.append(step(state, replicas, audio, config))
        state.step += 1
    return updates


@pytest.mark.parametrize("quantizer", ["fsq", "lattice", "q2d2-hex", "learned-lattice"])
def test_a_weight_lowers_the_rate_and_is_in_the_loss(quantizer: str) -> None:
    first, *_, last = trained(quantizer, 0.5)
    values = first.values
    assert values["rate"].item() == pytest.approx(0.5 * values["estimated_bits_per_frame"].item())
    rest = sum(values[name].item() for name in ("mel", "complex", "rate", "quantizer"))
    assert values["loss"].item() == pytest.approx(rest, rel=1e-5)
    assert last.values["estimated_bits_per_frame"] < first.values["estimated_bits_per_frame"] - 0.5


def test_without_a_weight_nothing_is_computed() -> None:
    assert not {"rate", "estimated_bits_per_frame"} & trained("vq", 0.0, 1)[0].values.keys()


def test_what_spends_no_bits_has_no_rate() -> None:
    assert "rate" not in trained("none", 0.5, 1)[0].values


def written(folder: Path, text: str) -> study.Study:
    path = folder / "s.yaml"
    path.write_text(f"name: s\n{text}")
    return study.load(str(path))


@pytest.mark.parametrize("quantizer", ["vq", "residual-fsq", "{name: lattice, options: {bound: voronoi}}"])
def test_quantizers_without_an_estimate_are_refused(tmp_path: Path, quantizer: str) -> None:
    with pytest.raises(StudyError, match=r"quantizers\.1: .* has no .*train\.rate_weight needs"):
        written(tmp_path, f"quantizers: [fsq, {quantizer}]\nbits: 12\ntrain: {{rate_weight: 0.01}}\n")


def test_weights_make_one_curve_and_one_unquantized_row(tmp_path: Path) -> None:
    made = written(tmp_path, "quantizers: [none, fsq]\nbits: 12\ntrain: {rate_weight: [0, 0.01, 0.1]}\n")
    expanded = runs.expand(made, CORPUS)
    constrained = "fsq entropy-constrained"
    labels = ["none", "fsq", f"{constrained} rate_weight=0.01", f"{constrained} rate_weight=0.1"]
    assert [run.label for run in expanded] == labels
    assert [run.series for run in expanded] == ["none", "fsq", constrained, constrained]
    both = written(tmp_path, "quantizers: [fsq]\nbits: [12, 20]\ntrain: {rate_weight: [0, 0.1]}\n")
    assert [run.label for run in runs.expand(both, CORPUS)] == [
        "fsq 12 bit",
        "fsq entropy-constrained 12 bit rate_weight=0.1",
        "fsq 20 bit",
        "fsq entropy-constrained 20 bit rate_weight=0.1",
    ]
    paired = "bits: [12, 20, 40]\nzip: [bits, train.rate_weight]\ntrain: {rate_weight: [0, 0, 0.1]}\n"
    zipped = runs.expand(written(tmp_path, f"quantizers: [fsq]\n{paired}"), CORPUS)
    assert [(run.label, run.series) for run in zipped] == [
        ("fsq 12 bit", "fsq"),
        ("fsq 20 bit", "fsq"),
        ("fsq entropy-constrained 40 bit rate_weight=0.1", "fsq entropy-constrained"),
    ]
    own = written(tmp_path, "quantizers: [{name: fsq, bits: [12, 20]}]\ntrain: {rate_weight: [0, 0.1]}\n")
    assert len(runs.expand(own, CORPUS)) == 4


def test_without_a_weight_identities_are_as_before(tmp_path: Path) -> None:
    assert "rate_weight" not in Train().identity()
    assert Train(rate_weight=0.1).identity()["rate_weight"] == 0.1
    plain, weighted = (
        {run.label.split(" ")[0]: run.hash for run in runs.expand(made, CORPUS)}
        for made in (
            written(tmp_path, "quantizers: [none, fsq]\nbits: 12\n"),
            written(tmp_path, "quantizers: [none, fsq]\nbits: 12\ntrain: {rate_weight: 0.1}\n"),
        )
    )
    assert plain["none"] == weighted["none"], "nothing is quantized, so the weight plays no part"
    assert plain["fsq"] != weighted["fsq"]


def test_the_unquantized_start_has_no_weight(tmp_path: Path) -> None:
    made = written(
        tmp_path, "quantizers: [fsq]\nbits: 12\ntrain: {rate_weight: 0.1, warm_start: {steps: 10}}\n"
    )
    (run,) = runs.expand(made, CORPUS)
    assert run.warm_start().train.rate_weight == 0
