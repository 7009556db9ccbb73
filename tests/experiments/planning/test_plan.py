"""`codecbench plan`: rates before anything is trained, states and hours from the store."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

import quantizers
from codec import backbones, model, weights
from codec.losses.objectives import Losses
from experiments.cli import app
from experiments.common import machine
from experiments.planning import device_speeds, operations
from experiments.planning import plan as plans
from experiments.studies import runs, study
from experiments.studies.row_rates import row_rates, unmatched
from experiments.tracking import run_index as known_runs
from experiments.tracking.reader import ClientReader

CORPUS = runs.CorpusIdentity(spec="demo", name="demo", content_hash="", synthetic=False)  # not prepared


def plan(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["plan", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", study.available())
def test_every_shipped_study_passes(name: str, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/none.db"
    corpora = study.load(name).data.corpus.startswith("manifest:")  # of its own, which are not here
    overrides = ["data.corpus=demo", "data.test=null", "contrasts=[]"] if corpora else []
    given = [part for override in overrides for part in ("--set", override)]
    said = json.loads(plan(name, *given, "--format", "json", "--tracking-uri", store))
    loaded = study.load(name, overrides)
    wanted = runs.expand(loaded, CORPUS)
    assert [run["hash"] for run in said["runs"]] == [run.hash for run in wanted]
    assert len(said["left"]) == len(wanted)
    rates = {rate.label: rate for rate in row_rates(loaded)}
    assert {label: rate["bitrate"] for label, rate in said["rates"].items()} == {
        label: pytest.approx(rate.bitrate) for label, rate in rates.items()
    }
    off = {label for label, rate in said["rates"].items() if rate["off"] is not None}
    own = tuple(choice.row for choice in loaded.quantizers if choice.bits is not None)  # said in the file
    assert loaded.allow_rate_mismatch or all(label.startswith(own) for label in off)
    assert off == set(unmatched(list(rates.values())))
    first = (Path(study.__file__).parent / "shipped" / f"{name}.yaml").read_text()
    for word in ("# Question: ", "\n# Cost: ", "\n# Look at: "):
        assert word in "\n" + first if word[0] == "\n" else first.startswith(word)
    assert not (tmp_path / "none.db").exists()


def test_unequal_rates_are_told_before_anything_is_trained() -> None:
    said = " ".join(plan("tilings-same-levels").split())
    assert "rhombic, q2d2-rhombic-released have 20.00 bits per frame, the others 17.25 to 17.57" in said
    assert "compares them all the same (allow_rate_mismatch), and captions say so" in said
    apart = " ".join(plan("tilings-same-levels", "--set", "allow_rate_mismatch=false").split())
    assert "tables and statistics show them separately" in apart
    assert "rate mismatch" not in plan("tilings-matched-rate")


def test_rows_of_one_training_are_counted_as_one_and_trials_are_told(tmp_path: Path) -> None:
    path = tmp_path / "stages.yaml"
    path.write_text(
        "name: stages\nbits: 20\nseeds: [0, 1]\ntrain: {warm_start: {steps: 5}}\nevaluate: {stages: all}\n"
        "quantizers: [{name: rvq, options: {stages: 4, dropout: 1.0}}]\n"
    )
    store = f"sqlite:///{tmp_path}/none.db"
    said = plan(str(path), "--tracking-uri", store)
    assert "runs: 8 from 2 trainings, of which 0 finished" in said
    assert "left: 2 warm starts, then 8 runs from 2 trainings" in said
    tuned = plan("best-of-family", "--tracking-uri", store)
    assert "6 trials for each of 6 families, 36 trainings of 1,000 steps in all" in tuned
    assert "search" not in said


def test_missing_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    monkeypatch.delenv("CODECBENCH_SOUNDSTREAM", raising=False)
    store = ("--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    said = " ".join(plan("soundstream", *store).split())
    assert "weights missing: the weights of soundstream are not here" in said
    assert "codecbench weights get soundstream" in said
    document = json.loads(plan("soundstream", "--format", "json", *store))
    assert document["weights"] == ["soundstream"] == list(document["missing_weights"])
    (tmp_path / "weights").mkdir()
    release = weights.get("soundstream")
    for file in release.files:  # at hand, if not yet looked into: a plan checks no sums
        folder = tmp_path / "weights" / release.name
        folder.mkdir(exist_ok=True)
        (folder / file.name).touch()
    assert "weights missing" not in plan("soundstream", *store)


def test_a_plan_made_again_imports_no_torch(tmp_path: Path) -> None:
    plan("rate-distortion")
    code = (
        "import sys\nfrom experiments.cli import app\n"
        "try:\n    app(['plan', 'rate-distortion'])\nexcept SystemExit:\n    pass\n"
        "print('heavy:', sorted({'torch', 'mlflow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    assert "123, of which 0 finished" in done.stdout
    assert "heavy: []" in done.stdout


def log(store: str, run: runs.Run, status: str, metrics: dict[str, float], device: str = "") -> None:
    from experiments.common.flat_keys import flatten

    client = MlflowClient(store)
    found = client.get_experiment_by_name("x")
    experiment = found.experiment_id if found else client.create_experiment("x")
    tags = {"kind": "run", "run_hash": run.hash, "status": status, "reason": "why"}
    tags |= {"device": device} if device else {}
    made = client.create_run(experiment, tags={f"codecbench.{key}": value for key, value in tags.items()})
    params = [Param(key, value) for key, value in flatten(run.resolved()).items()]
    logged = [Metric(key, value, 0, 0) for key, value in metrics.items()]
    client.log_batch(made.info.run_id, metrics=logged, params=params)


def test_a_study_that_finished_on_another_corpus_is_named(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    client = MlflowClient(store)
    experiment = client.create_experiment("base")
    of_a_run = {"kind": "run", "status": "finished", "corpus": "manifest:other.csv", "corpus_hash": "o"}
    for number, tags in enumerate(
        (of_a_run, of_a_run, {**of_a_run, "status": "failed"}, {**of_a_run, "superseded": "true"})
    ):
        named = {f"codecbench.{key}": value for key, value in {**tags, "run_hash": f"h{number}"}.items()}
        client.create_run(experiment, tags=named)
    said = plan("base", "--set", "quantizers=[fsq]", "--set", "bits=12", "--tracking-uri", store)
    assert "2 runs of base finished on another corpus: add --data manifest:other.csv" in said
    (tmp_path / "other.csv").write_text(
        "path,speaker,split\na.wav,1,train\nb.wav,2,validation\nc.wav,3,test\n"
    )
    for name in "abc":
        (tmp_path / f"{name}.wav").touch()
    given = ("--data", f"manifest:{tmp_path}/other.csv", "--tracking-uri", store)
    said = plan("base", "--set", "quantizers=[fsq]", "--set", "bits=12", *given)
    assert "manifest:other.csv; whether that is this corpus shows once this one is prepared" in said
    planned = plans.make("base", ["quantizers=[fsq]", "bits=12"], store, tmp_path)
    assert planned.on_other_corpora == {"manifest:other.csv": 2}


def test_states_and_hours_come_from_the_store_of_all_studies(tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    options = ["--set", "quantizers=[fsq, vq, rvq]", "--set", "train.warm_start=null", "--set", "seeds=[0]"]
    overrides = [option for option in options if option != "--set"]
    fsq, vq, _ = runs.expand(study.load("base", [*overrides, "bits=12"]), CORPUS)
    costs = {"cost/train_seconds": 100.0, "cost/evaluate_seconds": 20.0, "eval/pesq_asked": 10.0}
    log(store, fsq, "finished", costs)
    log(store, vq, "diverged", {})
    assert sorted(known_runs.known(ClientReader(store)), key=lambda run: run.hash) == sorted(
        known_runs.read(store), key=lambda run: run.hash
    )
    made = plans.make("base", [*overrides, "bits=12"], store, tmp_path)
    assert [made.state(run) for run in made.outline.runs] == ["finished", "diverged", "to do"]
    assert [run.label for run in made.left(made.outline.runs)] == ["rvq"]
    # rvq was not timed: as long as what was. A hundredth of the steps, and an evaluation as long.
    assert made.estimate.training == pytest.approx(100.0)
    assert made.estimate.evaluation == pytest.approx(20.0)
    said = plan("base", *options, "--set", "bits=12", "--tracking-uri", store, "--workers", "1")
    assert "1 finished, 1 failed or diverged (--retry does them again)" in said
    assert "about 2 min with 1 worker, from" in said
    longer = plans.make("base", [*overrides, "bits=12", "train.steps=3000"], store, tmp_path)
    assert longer.estimate.training == pytest.approx(3 * 3 * 100.0)
    budgets = ["train.steps=3000", "train.decay_at=[1000, 3000]"]
    twice = plans.make("base", [*overrides, "bits=12", *budgets], store, tmp_path)
    # Three quantizers at two budgets each. The branch to the first one has 200 steps of its own.
    assert twice.estimate.evaluation == pytest.approx(3 * 2 * 20.0)
    assert twice.estimate.training == pytest.approx(3 * (3 + 0.2) * 100.0)
    wider = plans.make("base", [*overrides, "bits=12", "backbone={options: {width: 200}}"], store, tmp_path)
    assert wider.estimate.seconds is None
    assert "no run with this backbone" in wider.estimate.missing[0]


@pytest.mark.slow
def test_measured_steps_make_the_hours_known(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path / "cache"))
    store = f"sqlite:///{tmp_path}/none.db"
    options = [
        *("--set", "quantizers=[none, vq, q2d2-hex]", "--set", "backbone.options={width: 32, blocks: 1}"),
        *("--set", f"data=manifest:{speech}", "--set", "train.batch_size=4", "--tracking-uri", store),
    ]
    assert "training about" not in plan("quickstart", *options)
    said = plan("quickstart", *options, "--measure")
    assert "timing q2d2-hex" in said
    assert "training about" in said
    assert not caplog.records
    # Kept for the next plan, and for longer trainings.
    again = json.loads(plan("quickstart", *options, "--format", "json"))
    longer = json.loads(
        plan(
            "quickstart",
            *options,
            "--set",
            "train.steps=600",
            "--set",
            "train.warm_start=null",
            "--format",
            "json",
        )
    )
    assert 0 < again["estimate"]["training"] < 600
    assert longer["estimate"]["training"] > again["estimate"]["training"] / 2


def test_hours_are_those_of_this_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"sqlite:///{tmp_path}/store.db"
    overrides = ["quantizers=[fsq, vq]", "train.warm_start=null", "seeds=[0]", "bits=12"]
    fsq, _ = runs.expand(study.load("base", overrides), CORPUS)
    log(store, fsq, "finished", {"cost/train_seconds": 100.0}, device="NVIDIA H100 80GB HBM3")
    here = plans.make("base", overrides, store, tmp_path).estimate
    assert here.training is None
    assert "timed on this device (cpu)" in here.missing[0]
    monkeypatch.setattr(plans, "device_name", lambda: "NVIDIA H100 80GB HBM3")
    there = plans.make("base", overrides, store, tmp_path).estimate
    assert there.training == pytest.approx(100.0)
    assert there.source == "steps that were timed on this device (NVIDIA H100 80GB HBM3)"


SEANET = (
    "backbone={name: wavtokenizer-small, options: {encoder_width: 4, lstm_layers: 1, dim: 16, width: 32, "
    "hidden: 32, blocks: 1, conditions: 4}}"
)
ONE_FAMILY = {"multi_period": 0, "multi_period_features": 0, "discriminator_width": 0.03}


def test_hours_on_a_device_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODECBENCH_CACHE", str(tmp_path))
    asked = ("--set", "quantizers=[vq, fsq]", "--set", SEANET, "--set", "train.warm_start=null")
    options = ("quickstart", *asked, "--tracking-uri", f"sqlite:///{tmp_path}/none.db")
    said = " ".join(plan(*options, "--device-speed", "0.001").split())
    assert "counting the operations of a step" in said
    assert "in 1 worker process on a device of 0.001 TFLOP/s" in said
    assert "from counted operations of a step and the stated speed of a device of 0.001 TFLOP/s" in said
    quick = json.loads(plan(*options, "--device-speed", "0.002", "--format", "json", "--quiet"))
    loaded = study.load("quickstart", [option for option in asked if option != "--set"])
    samples = round(loaded.train.crop_seconds * 24_000 / 320) * 320
    crop = operations.of_codec(loaded.backbone.name, loaded.backbone.options, samples)
    crop += operations.of_objective(loaded.train.objective.objective(), 24_000, samples)
    steps = len(quick["left"]) * loaded.train.steps * loaded.train.batch_size
    assert quick["estimate"]["training"] == pytest.approx(steps * crop / 2e9)
    refused = CliRunner().invoke(app, ["plan", "quickstart", "--device-speed", "a10"])
    assert refused.exit_code == 2
    assert "'a10' is no speed of a device; give one of a100" in " ".join(refused.output.split())


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "vocos", "options": ONE_FAMILY},
        pytest.param(
            {"name": "wavtokenizer", "options": {"discriminator_width": 0.03}}, marks=pytest.mark.long
        ),
    ],
    ids=["one family", "all"],
)
def test_operations_are_those_of_a_real_step(objective: dict[str, object]) -> None:
    """Counted by torch's own counter, on tensors that have values."""
    loaded = study.load("quickstart", [SEANET, f"train.objective={json.dumps(objective)}"])
    backbone, samples = backbones.get(loaded.backbone.name, loaded.backbone.options), 2240
    wanted = loaded.train.objective.objective()
    codec = model.build(backbone, lambda dim: quantizers.create("none", dim=dim), 0)
    losses, audio = Losses(wanted, 24_000), 0.1 * torch.randn(1, samples)
    counter = FlopCounterMode(display=False)
    with counter:
        output = codec(audio)
        torch.stack(list(losses.discriminator(output.audio.detach(), audio, 0).values())).sum().backward()
        torch.stack(list(losses.generator(output, audio, 0).values())).sum().backward()
    counted = operations.of_codec(loaded.backbone.name, loaded.backbone.options, samples)
    counted += operations.of_objective(wanted, 24_000, samples)
    assert counted == pytest.approx(counter.get_total_flops(), rel=1e-6)


def test_stated_speeds_by_arithmetic() -> None:
    a100 = device_speeds.parse("A100")
    assert a100.of("fp32") == pytest.approx(9.75e12)  # half of 19.5
    assert a100.of("bf16") == a100.of("auto") == pytest.approx(0.3 * 312e12)
    assert a100.of("fp32", tf32=True) == pytest.approx(0.3 * 156e12)
    assert device_speeds.parse("60").of("fp32") == 60e12
    for wrong in ("0", "-3", "nan", "inf", "", "gpu"):
        with pytest.raises(
            device_speeds.DeviceSpeedError, match="give one of a100, h100, l40s, or the TFLOP/s"
        ):
            device_speeds.parse(wrong)


def test_the_name_of_the_first_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = [
        "GPU 0: NVIDIA A100-SXM4-80GB (UUID: GPU-aa)",
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bb)",
        "  MIG 1g.10gb     Device  0: (UUID: MIG-cc)",
    ]
    monkeypatch.setattr(machine, "_listing", lambda: listing)
    names = {"0": "NVIDIA A100-SXM4-80GB", "1": "NVIDIA H100 80GB HBM3", "GPU-bb": "NVIDIA H100 80GB HBM3"}
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert machine.device_name() == names["0"]
    for visible, name in {**names, "1,0": names["1"], "": "cpu"}.items():
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert machine.device_name() == name
    monkeypatch.setattr(machine, "_listing", list)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert machine.device_name() == "cpu"
