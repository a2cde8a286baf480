"""Optimizer and learning rate: by hand, and those of Detectron2."""

import math

import pytest
import torch
from torch import nn

from atto_det.errors import UserError
from atto_det.torchvision.model import build_model
from atto_det.torchvision.solver import build_optimizer, clip_gradients, rate_factor

UNTESTED = ["DATASETS.TEST", "()"]
CURVES = [
    ["SOLVER.STEPS", "(30, 45)", "SOLVER.WARMUP_ITERS", "10"],
    ["SOLVER.STEPS", "(5, 70)", "SOLVER.WARMUP_ITERS", "12", "SOLVER.GAMMA", "0.3"],
    ["SOLVER.STEPS", "()", "SOLVER.WARMUP_METHOD", "constant", "SOLVER.WARMUP_FACTOR", "0.1"],
    ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.WARMUP_ITERS", "7"],
    ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.WARMUP_ITERS", "0",
     "SOLVER.BASE_LR_END", "0.005"],
    ["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.WARMUP_ITERS", "1000"],
]  # fmt: skip


def test_the_curves_by_hand(config):
    steps = rate_factor(config("SOLVER.MAX_ITER", 60, *CURVES[0]))
    assert steps(0) == 0.001
    assert steps(5) == pytest.approx((0.001 + 1) / 2)
    assert [steps(i) for i in (10, 29, 30, 44)] == [1, 1, 0.1, 0.1]
    assert steps(59) == pytest.approx(0.01)
    cosine = rate_factor(config("SOLVER.MAX_ITER", 60, *CURVES[3]))
    assert cosine(30) == pytest.approx(0.5)
    assert cosine(20) == pytest.approx(0.75)
    assert cosine(59) == pytest.approx((1 + math.cos(math.pi * 59 / 60)) / 2)


@pytest.mark.parametrize("options", CURVES)
def test_the_learning_rate_is_detectron2_s_at_every_iteration(config, repository, options):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from detectron2.solver import build_lr_scheduler

    from atto_det.detectron2 import load_config

    options = [*UNTESTED, "SOLVER.MAX_ITER", "60", *options]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cfg = load_config(repository / "tests/tiny_mini_voc.yaml", options)
    theirs, ours = build_lr_scheduler(cfg, optimizer), rate_factor(config(*options))
    for iteration in range(60):
        assert ours(iteration) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12), iteration
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["SOLVER.STEPS", "(8,)"], r"STEPS is \[8\], which must rise from above 0 to below"),
        (["SOLVER.STEPS", "(5, 3)"], r"STEPS is \[5, 3\]"),
        (["SOLVER.STEPS", "(0,)"], r"STEPS is \[0\]"),
        (["SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", "SOLVER.BASE_LR_END", 1.0], "BASE_LR_END"),
    ],
)
def test_keys_that_give_no_schedule_are_refused(config, options, sentence):
    with pytest.raises(UserError, match=sentence):
        rate_factor(config("SOLVER.MAX_ITER", 8, *options))


def groups_of(optimizer, model) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of each parameter of a model."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["SOLVER.BIAS_LR_FACTOR", "2.0", "SOLVER.WEIGHT_DECAY_BIAS", "0.3"],
        ["SOLVER.WEIGHT_DECAY_NORM", "0.01", "MODEL.FPN.NORM", "BN"],
    ],
)
def test_each_parameter_has_the_rate_and_decay_that_detectron2_gives_it(config, options):
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from detectron2.solver import build_optimizer as build_theirs

    cfg = config(*options)
    model = build_model(cfg)
    model.backbone.body.stem.requires_grad_(False)
    ours = groups_of(build_optimizer(cfg, model), model)
    theirs = groups_of(build_theirs(cfg, model), model)
    assert ours == theirs
    assert len(ours) > 100
    assert len(set(ours.values())) > 1
    assert not any(name.startswith("backbone.body.stem") for name in ours)


@pytest.mark.parametrize("kind", ["norm", "value"])
def test_a_clipped_step_is_detectron2_s(config, kind):
    """Two steps with momentum; each parameter is clipped by itself."""
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from detectron2.solver import build_optimizer as build_theirs

    cfg = config("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.02)
    models = []
    for build in (build_optimizer, build_theirs):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        optimizer = build(cfg, model)
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(2, 3, 8, 8) + torch.rand(2, 3, 8, 8)).square().sum().backward()
            if build is build_optimizer:
                clip_gradients(cfg, model.parameters())
            optimizer.step()
        models.append(model)
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict(), rtol=1e-6, atol=1e-7)


def test_clipping_is_of_each_parameter_and_off_where_it_is_disabled(config):
    model = nn.ParameterList([torch.zeros(2), torch.zeros(2)])

    def clipped(*options):
        for parameter, gradient in zip(model, ([3.0, 4.0], [0.3, 0.4]), strict=True):
            parameter.grad = torch.tensor(gradient)
        clip_gradients(config(*options), model.parameters())
        return [parameter.grad.tolist() for parameter in model]

    assert clipped()[0] == pytest.approx([0.6, 0.8], abs=1e-5)  # norm 5 to 1
    assert clipped()[1] == pytest.approx([0.3, 0.4])  # norm 0.5 stays
    assert clipped("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "value")[0] == [1.0, 1.0]
    assert clipped("SOLVER.CLIP_GRADIENTS.ENABLED", False)[0] == [3.0, 4.0]
