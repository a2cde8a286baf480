"""Broken weights and empty proposals, in both engines."""

import importlib

import pytest
import torch

from atto_det.errors import UserError
from atto_det.training.finite import finite_outputs


@pytest.mark.parametrize(
    ("part", "named"),
    [
        ("backbone", r"rpn.?head"),
        ("rpn", r"rpn.?head"),
        ("box_predictor", "box_predictor"),
        ("mask_", "roi_heads"),
    ],
)
def test_numbers_that_are_not_finite_are_no_empty_picture(engine, config, part, named):
    cfg = config("DATALOADER.NUM_WORKERS", 0)
    model = importlib.import_module(f"{engine.__name__}.model").build_model(cfg).eval()
    for name, parameter in model.named_parameters():
        if part in name:
            torch.nn.init.constant_(parameter, float("nan"))
    evaluate = engine.run.evaluate_model
    with pytest.raises(UserError, match=rf"the model's \S*{named} gives numbers that are not fin"):
        evaluate(cfg, model, "mini_voc_val")
    assert not any(module._forward_hooks for module in model.modules())


def test_a_model_without_proposals_finds_nothing_and_trains(engine, config, out):
    none = ["MODEL.PROPOSAL_GENERATOR.MIN_SIZE", 100_000, "SOLVER.MAX_ITER", 1]
    none += ["MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", False, "DATALOADER.NUM_WORKERS", 0]
    results = engine.run.train(config(*none))
    assert results["mini_voc_val"]["AP_d"] == 0
    weights = torch.load(out / "model_final.pth", weights_only=True)["model"]
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_what_is_checked_is_what_a_module_gives():
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Identity()

        def forward(self, x):
            return self.head(x)

    model = Model()
    fine = {"a": [torch.zeros(2), (torch.ones(1, dtype=torch.int64), None, "text")]}
    bad = {"a": [torch.zeros(2), (torch.tensor([1.0, float("inf")]),)]}
    with finite_outputs(model):
        assert model(fine) is fine
        with pytest.raises(UserError, match="the model's head gives"):
            model(bad)
    assert model(bad) is bad
