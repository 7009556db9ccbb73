"""Speed of the WavTokenizer backbone: inference, and a step of generator and discriminators.

    python -m benchmarks.training_step [--peer CHECKOUT [--peer-python PYTHON]] [--seconds 1] [--repeats 5]

CHECKOUT is a clone of github.com/jishengpeng/WavTokenizer (it imports einops and huggingface_hub); both are
built at the same sizes with random weights, each in a process of its own, and take turns. CPU seconds are
those of all threads, and less disturbed by other processes than wall-clock seconds. `floor` is the number of
floating-point operations (but for the LSTM's, a twentieth of inference) over the rate of a large float32
matrix product, in CPU seconds. Memory is the most that a process held which did nothing else.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

SAMPLE_RATE = 24_000
CODES = 4096
DIM = 512
WORKS = ("inference", "training step", "inference, bfloat16", "training step, bfloat16")
STRIDES = {"40": (6, 5, 5, 4), "75": (8, 5, 4, 2)}
Work = Callable[[], object]


def ours(rate: str, audio: Tensor) -> dict[str, Work]:
    """What to time, by name, of this package."""
    import quantizers
    from codec import backbones, inference, model
    from codec.losses import objectives
    from codec.weight_norm import fold_weight_norm

    def codec(conditions: int) -> model.Codec:
        backbone = backbones.get(f"wavtokenizer-{rate}", {"conditions": conditions})
        built = model.build(
            backbone,
            lambda dim: quantizers.create("vq", dim=dim, codebook_size=CODES, commitment=1.0),
            seed=0,
        )
        for name, state in built.quantizer.named_buffers():
            if name.endswith("started"):
                state.fill_(True)  # no k-means within the timing
        return built

    @cache
    def prepared() -> model.Codec:
        return inference.prepare(codec(0))

    @cache
    def folded() -> model.Codec:
        return fold_weight_norm(codec(0)).eval()

    trained: list[Any] = []

    def bfloat16() -> torch.autocast:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    def infer() -> None:
        with torch.inference_mode():
            prepared()(audio)

    def infer_unpacked() -> None:
        with torch.inference_mode():
            folded()(audio)

    def infer_bfloat16() -> None:
        with torch.inference_mode(), bfloat16():
            folded()(audio)

    def step(precision: Callable[[], AbstractContextManager[Any]] = nullcontext) -> None:
        if not trained:
            built, losses = codec(4), objectives.Losses(objectives.get("wavtokenizer"), SAMPLE_RATE)
            parts = (built, losses.adversary)
            trained.extend((built, losses, *(torch.optim.AdamW(p.parameters(), fused=True) for p in parts)))
        built, losses, generator, discriminator = trained
        with precision():
            output = built(audio)
        for optimizer, terms in (
            (discriminator, lambda: losses.discriminator(output.audio, audio, 0)),
            (generator, lambda: losses.generator(output, audio, 0)),
        ):
            optimizer.zero_grad()
            with precision():
                loss = torch.stack([term.float() for term in terms().values()]).sum()
            loss.backward()
            optimizer.step()

    return {
        "inference": infer,
        "training step": step,
        "inference, bfloat16": infer_bfloat16,
        "count inference": infer_unpacked,  # packed layers can't be counted
        "count training step": step,
        "training step, bfloat16": lambda: step(bfloat16),
    }


def peer(rate: str, audio: Tensor) -> dict[str, Work]:
    """The same of the released WavTokenizer code, its steps in the order of its trainer."""
    from decoder.discriminator_dac import DACDiscriminator  # type: ignore[import-not-found]
    from decoder.discriminators import (  # type: ignore[import-not-found]
        MultiPeriodDiscriminator,
        MultiResolutionDiscriminator,
    )
    from decoder.feature_extractors import EncodecFeatures  # type: ignore[import-not-found]
    from decoder.heads import ISTFTHead  # type: ignore[import-not-found]
    from decoder.loss import (  # type: ignore[import-not-found]
        DACGANLoss,
        DiscriminatorLoss,
        FeatureMatchingLoss,
        GeneratorLoss,
        MelSpecReconstructionLoss,
    )
    from decoder.models import VocosBackbone  # type: ignore[import-not-found]

    strides = STRIDES[rate]
    hop = SAMPLE_RATE // int(rate)
    features = EncodecFeatures("encodec_24khz", [6.6] * 4, True, 1, list(strides), CODES, 200)
    for name, state in features.named_buffers():
        if name.endswith("inited"):
            state.fill_(1)
        elif name.endswith(("embed", "embed_avg")):
            state.normal_()
        elif name.endswith("cluster_size"):
            state.fill_(10)
    model = torch.nn.ModuleList(
        (
            features,
            VocosBackbone(DIM, 768, 2304, 12, adanorm_num_embeddings=4),
            ISTFTHead(768, 4 * hop, hop, "same"),
        )
    )
    trained: list[Any] = []
    condition = torch.tensor([0])

    def generate() -> tuple[Tensor, Tensor]:
        quantized, _, commitment = model[0](audio, bandwidth_id=condition)
        return model[2](model[1](quantized, bandwidth_id=condition)), commitment

    def infer() -> None:
        model.eval()
        with torch.inference_mode():
            quantized, _, _ = model[0].infer(audio, bandwidth_id=condition)
            model[2](model[1](quantized, bandwidth_id=condition))

    def step() -> None:
        model.train()
        if not trained:
            period, resolution = (
                MultiPeriodDiscriminator(num_embeddings=4),
                MultiResolutionDiscriminator(num_embeddings=4),
            )
            learning = torch.nn.ModuleList((period, resolution))
            dac = DACGANLoss(DACDiscriminator())  # in none of the optimizers, as released
            optimizers = [torch.optim.AdamW(part.parameters()) for part in (learning, model)]
            trained.extend(
                (period, resolution, dac, learning, *optimizers, MelSpecReconstructionLoss(SAMPLE_RATE))
            )
        period, resolution, dac, learning, discriminator, generator, mel = trained
        learning.requires_grad_(True)
        with torch.no_grad():
            fake, _ = generate()
        loss = dac.discriminator_loss(fake.unsqueeze(1), audio.unsqueeze(1))
        for part in (period, resolution):
            real_scores, fake_scores, _, _ = part(y=audio, y_hat=fake, bandwidth_id=condition)
            total, parts, _ = DiscriminatorLoss()(real_scores, fake_scores)
            loss = loss + total / len(parts)
        discriminator.zero_grad()
        loss.backward()
        discriminator.step()
        learning.requires_grad_(False)  # as its trainer does for parameters of the other optimizer
        fake, commitment = generate()
        loss = sum(dac.generator_loss(fake.unsqueeze(1), audio.unsqueeze(1)))
        for part in (period, resolution):
            _, fake_scores, real_maps, fake_maps = part(y=audio, y_hat=fake, bandwidth_id=condition)
            total, parts = GeneratorLoss()(fake_scores)
            loss = loss + (total + FeatureMatchingLoss()(real_maps, fake_maps)) / len(parts)
        loss = loss + 45 * mel(fake, audio) + 1000 * commitment.mean()
        generator.zero_grad()
        loss.backward()
        generator.step()

    return {"inference": infer, "training step": step}


def matmul_rate(size: int = 1536) -> float:
    """Operations a CPU second of a float32 matrix product, the best of a few."""
    matrix = torch.rand(size, size)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        torch.mm(matrix, matrix)
        seconds.append(time.process_time() - start)
    return 2 * size**3 / min(seconds)


def answer(options: argparse.Namespace) -> None:
    """The process that is timed: does what stdin names, one per line, and prints JSON."""
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    audio = 0.1 * torch.randn(options.batch, round(options.seconds * SAMPLE_RATE))
    works = (ours if options.worker == "ours" else peer)(options.rate, audio)
    for line in sys.stdin:
        name = line.strip()
        if name.startswith("count "):
            from torch.utils.flop_counter import FlopCounterMode

            works[name]()  # a model can't be built below a counter
            counter = FlopCounterMode(display=False)
            with counter:
                works[name]()
            result = {"operations": counter.get_total_flops(), "rate": matmul_rate()}
        elif name == "memory":
            result = {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}
        else:
            wall, cpu = time.perf_counter(), time.process_time()
            works[name]()
            result = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(result), flush=True)


class Worker:
    """A process that runs `answer`."""

    def __init__(self, name: str, python: str, path: Path, options: argparse.Namespace) -> None:
        arguments = ["--worker", name, "--rate", options.rate]
        for key in ("seconds", "batch", "threads"):
            arguments += [f"--{key}", str(getattr(options, key))]
        environment = os.environ | {
            "PYTHONPATH": str(path.resolve()),
            "OMP_NUM_THREADS": str(options.threads),
            "PYTHONWARNINGS": "ignore",
        }
        self.process = subprocess.Popen(
            [python, "-P", str(Path(__file__).resolve()), *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, name: str) -> dict[str, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a benchmarked process ended; its message stands above")
        return json.loads(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--peer", type=Path, help="a checkout of the released WavTokenizer code")
    parser.add_argument("--peer-python", default=sys.executable, help="the interpreter to run it with")
    parser.add_argument("--rate", choices=sorted(STRIDES), default="75", help="frames per second")
    parser.add_argument("--seconds", type=float, default=1.0, help="of audio, in each row of the batch")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5, help="timed calls of each, after one untimed")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", choices=WORKS, nargs="*", help="default: all")
    parser.add_argument("--worker", choices=["ours", "peer"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        answer(options)
        return

    from rich.console import Console
    from rich.table import Table

    root = Path(__file__).parents[1]
    sides = {"ours": (sys.executable, root)}
    if options.peer:
        sides["peer"] = (options.peer_python, options.peer)
    table = Table(
        "what",
        *(f"{name}, {unit}" for unit in ("wall s", "CPU s", "GiB") for name in sides),
        "ours / peer (CPU)",
        "floor, CPU s",
        title=f"{options.rate} Hz, batch {options.batch} x {options.seconds:g} s, {options.threads} threads",
    )
    for what in WORKS:
        if options.only and what not in options.only:
            continue
        workers = {name: Worker(name, python, path, options) for name, (python, path) in sides.items()}
        # The peer runs in float32 alone.
        tasks = {"ours": what, "peer": what.removesuffix(", bfloat16")}
        times: dict[str, list[dict[str, float]]] = {name: [] for name in workers}
        for repeat in range(options.repeats + 1):
            for name, worker in workers.items():
                result = worker.ask(tasks[name])
                if repeat:
                    times[name].append(result)
        figures = [median(taken[unit] for taken in times[name]) for unit in ("wall", "cpu") for name in sides]
        ratio = f"{figures[2] / figures[3]:.2f}" if options.peer else "—"
        memory = [worker.ask("memory")["bytes"] / 2**30 for worker in workers.values()]
        counted = workers["ours"].ask("count " + what.removesuffix(", bfloat16"))
        floor = f"{counted['operations'] / counted['rate']:.3f}"
        table.add_row(
            what,
            *(f"{value:.3f}" for value in figures),
            *(f"{value:.2f}" for value in memory),
            ratio,
            floor,
        )
        for worker in workers.values():
            worker.process.terminate()
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
