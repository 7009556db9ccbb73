"""Factorised stages: what a stage learns from, and that a start from data lasts through training."""

import torch

import quantizers
from quantizers.checks import source_coding
from quantizers.checks.start_table import signal_to_noise


def test_the_maps_of_a_stage_do_not_learn_through_later_stages() -> None:
    torch.manual_seed(0)
    both = quantizers.create("rvq-factorized", dim=8, codebook_size=16, stages=2)
    frames = torch.randn(1, 500, 8, generator=torch.Generator().manual_seed(1))
    both.start(frames[0])
    both.train()
    weights = torch.randn(8, generator=torch.Generator().manual_seed(2))
    gradients = []
    for quantizer in (both.cut(1), both):
        quantizer.zero_grad()
        (quantizer(frames).features * weights).sum().backward()
        gradients.append(
            {
                name: value.grad.clone()
                for name, value in both.stages[0].named_parameters()
                if value.grad is not None
            }
        )
    alone, followed = gradients
    assert alone["project_out.length"].abs().max() > 0.1
    assert alone.keys() == followed.keys()
    for name, gradient in alone.items():
        torch.testing.assert_close(followed[name], gradient)


def test_the_encoder_learns_through_all_stages() -> None:
    """The gradient of the features is that of the two linear maps of every stage, in turn."""
    torch.manual_seed(0)
    quantizer = quantizers.create("rvq-factorized", dim=8, codebook_size=16, stages=3, codebook_dim=2)
    features = torch.randn(1, 50, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    weights = torch.randn(8, generator=torch.Generator().manual_seed(2))
    quantizer.train()
    (quantizer(features).features * weights).sum().backward()
    left = torch.eye(8)
    for stage in quantizer.stages:
        left = left - left @ stage.project_in.matrix().mT @ stage.project_out.matrix().mT
    expected = ((torch.eye(8) - left) @ weights).detach()
    assert features.grad is not None
    torch.testing.assert_close(features.grad, expected.expand(1, 50, 8))


def test_training_does_not_leave_a_start_from_data() -> None:
    """With the gradient of the maps through later stages it ends at 7.7 dB, below its start."""
    torch.manual_seed(0)
    quantizer = quantizers.create("rvq-factorized", dim=8, bits=24)
    draw = torch.Generator().manual_seed(0)
    fresh = source_coding.sample("gaussian", 4096, 8, torch.Generator().manual_seed(1))
    source_coding.train(quantizer, "gaussian", steps=0, batch=512, generator=draw)
    before = signal_to_noise(quantizer, fresh)
    source_coding.train(quantizer, "gaussian", steps=60, batch=512, generator=draw.manual_seed(0))
    assert before > 13.5
    assert signal_to_noise(quantizer, fresh) > before
