"""One of two processes that train quantizers on different data and compare what they learned.

Arguments: rank, port, names, each with /option=value after it if it has any. Prints `name:same`, or the
entries of the state dict that differ, for a training before which the first rank alone coded something, and
for one that starts from data; at last the codebook of two codes that k-means starts from what both ranks
have, the mean and deviation of a residual that is 0 on one rank and 10 on the other, and how many codes that
nothing chose are revived from the second rank's vectors.
"""

import sys

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import quantizers
from quantizers.parts.codebook import EMACodebooks, EMAConfig
from quantizers.parts.conditioned_stages import ConditionedStages


def train(name: str, rank: int, from_data: bool) -> quantizers.Quantizer:
    """Forty steps; the first ten on a collapsed input, so that dead codes have to be revived."""
    torch.manual_seed(0)
    name, *options = name.split("/")
    quantizer = quantizers.create(name, dim=16, bits=10.0, **dict(each.split("=") for each in options))
    frames = torch.randn(500, 16, generator=torch.Generator().manual_seed(1))
    if from_data:
        quantizer.start(frames)
    if rank == 0:  # as a snapshot or a validation does: a collective here would wait for ever
        quantizer.encode(7 * frames.unsqueeze(0))
        quantizer.eval()(7 * frames.unsqueeze(0))
        quantizer.train()
    parameters = list(quantizer.parameters())
    wrapped = DistributedDataParallel(quantizer, broadcast_buffers=False) if parameters else quantizer
    optimizer = torch.optim.SGD(parameters, lr=0.01) if parameters else None
    torch.manual_seed(100 + rank)  # each rank sees its own data and draws its own numbers
    for step in range(40):
        x = torch.randn(2, 40, 16) * (0.01 if step < 10 else 1.0)
        out = wrapped(x)
        loss = (out.features - x).square().mean() + out.loss
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return quantizer


def different(quantizer: quantizers.Quantizer) -> list[str]:
    """Entries of the state dict that are not those of rank 0, on any rank."""
    found = []
    for key, value in quantizer.state_dict().items():
        mine = value.double().contiguous()
        first = mine.clone()
        dist.broadcast(first, src=0)
        differs = torch.tensor(float(not torch.equal(mine, first)))
        dist.all_reduce(differs)
        if differs:
            found.append(key)
    return found


def started(rank: int) -> list[float]:
    """Two codes, after k-means over vectors that are 0 on one rank and 10 on the other."""
    books = EMACodebooks(1, 1, EMAConfig(codebook_size=2, kmeans_iterations=10))
    books.start(10 * rank + 0.1 * torch.randn(1, 500, 1))
    return sorted(books.codes.flatten().tolist())


def revived(rank: int) -> int:
    """Of 100 codes, all but one unused, how many become vectors of rank 1."""
    books = EMACodebooks(1, 1, EMAConfig(codebook_size=100, revive_below=0.1))
    books.codes.fill_(0.0)
    books.started.fill_(True)
    vectors = torch.full((1, 200, 1), 10.0 * rank)
    books.update(vectors, torch.zeros(1, 200, dtype=torch.long))
    return int((books.codes > 9).sum())


def followed(rank: int) -> list[float]:
    """Mean and deviation that a first stage follows, of values that are 0 on one rank and 10 on the other."""
    stages = ConditionedStages([3], 2, "layernorm").train()
    stages(torch.full((50, 1), 10.0 * rank))
    return [stages.mean[0].item(), stages.variance[0].sqrt().item()]


def main() -> None:
    rank, port, *names = sys.argv[1:]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=int(rank), world_size=2)
    for name in names:
        for from_data in (False, True):
            differing = different(train(name, int(rank), from_data))
            print(f"{name}:{','.join(differing) or 'same'}", flush=True)
    print("start:" + ",".join(str(round(code)) for code in started(int(rank))), flush=True)
    print("followed:" + ",".join(str(round(value)) for value in followed(int(rank))), flush=True)
    print(f"revived:{revived(int(rank))}", flush=True)
    dist.barrier()  # a rank that leaves while the other still reads its sockets aborts the other
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
