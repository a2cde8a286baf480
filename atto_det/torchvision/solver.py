"""Optimizer, gradient clipping and learning rate, by Detectron2's keys of SOLVER."""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable

import torch
from torch import nn
from yacs.config import CfgNode

from atto_det.errors import UserError

NORM_LAYERS = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.SGD:
    """Stochastic gradient descent over the trainable parameters of `model`.

    Norms and biases have their own weight decay, biases also their own learning rate.
    """
    solver = cfg.SOLVER
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
            if isinstance(module, NORM_LAYERS) and solver.WEIGHT_DECAY_NORM is not None:
                decay = solver.WEIGHT_DECAY_NORM
            if name == "bias":
                rate *= solver.BIAS_LR_FACTOR
                decay = decay if solver.WEIGHT_DECAY_BIAS is None else solver.WEIGHT_DECAY_BIAS
            if parameter.requires_grad:
                groups.setdefault((rate, decay), []).append(parameter)
    return torch.optim.SGD(
        [{"params": own, "lr": key[0], "weight_decay": key[1]} for key, own in groups.items()],
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
    )


def clip_gradients(cfg: CfgNode, parameters: Iterable[nn.Parameter]) -> None:
    """Clip the gradient of each parameter separately, by SOLVER.CLIP_GRADIENTS."""
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return
    for parameter in parameters:
        if clip.CLIP_TYPE == "norm":
            nn.utils.clip_grad_norm_(parameter, clip.CLIP_VALUE, clip.NORM_TYPE)
        else:
            nn.utils.clip_grad_value_(parameter, clip.CLIP_VALUE)


def rate_factor(cfg: CfgNode) -> Callable[[int], float]:
    """A function from an iteration to the factor of the learning rates in it.

    Steps, or half a cosine, over the whole training. At the start they are replaced by a warm-up
    that ends at their value.

    Raises:
        UserError: the keys of SOLVER give no schedule.
    """
    solver = cfg.SOLVER
    length, steps = solver.MAX_ITER, [step for step in solver.STEPS if step <= solver.MAX_ITER]
    is_cosine = solver.LR_SCHEDULER_NAME == "WarmupCosineLR"
    if not is_cosine and (steps != sorted(set(steps)) or not {0, length}.isdisjoint(steps)):
        raise UserError(
            f"the keys of SOLVER give no schedule: STEPS is {steps}, which must rise from above 0 "
            f"to below MAX_ITER ({length})"
        )
    if is_cosine and not (0 < solver.BASE_LR >= solver.BASE_LR_END >= 0):
        raise UserError(
            "the keys of SOLVER give no schedule: BASE_LR must be above 0, and BASE_LR_END between "
            "0 and BASE_LR"
        )
    end = solver.BASE_LR_END / solver.BASE_LR if is_cosine else 0.0
    warmup = min(solver.WARMUP_ITERS, length)

    def plain(iteration: int) -> float:
        if is_cosine:
            return end + (1 - end) * (1 + math.cos(math.pi * iteration / length)) / 2
        return solver.GAMMA ** bisect_right(steps, iteration)

    def factor(iteration: int) -> float:
        if iteration >= warmup:
            return plain(iteration)
        low = solver.WARMUP_FACTOR * plain(0)
        if solver.WARMUP_METHOD == "constant":
            return low
        share = iteration / warmup
        return low * (1 - share) + plain(warmup) * share

    return factor
