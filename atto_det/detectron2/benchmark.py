"""Detectors as contestants of `atto_det.complexity.latency`, with a fixed amount of work.

Real are: one picture, resized beforehand to exactly the requested size, and everything that
`model(inputs)` does with it, from normalising pixels to masks of that size. The weights are random,
since time does not depend on their values except for the two choices below.

Fixed are (by `regions.py`), since random weights detect nothing: the RPN does all its work (head,
top-k, decoding, NMS) with its own weights, and then the stated number of boxes replaces its result.
Likewise, the box head does all its work, and then fixed scores and offsets of zero replace its
predictions. The post-processing (threshold, NMS of each class, top-k) is real again and leaves the
stated number of detections.

Parts: preprocessing (normalising, padding), bottom_up and fpn (backbone if there is no FPN), rpn
(head and proposals), box pooling, box head, post-processing, mask pooling, mask head (up to the
probabilities of the predicted class), mask pasting.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from detectron2.modeling import FPN, GeneralizedRCNN
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from torch import Tensor, nn

from atto_det.complexity.benchmarking import SEED, BenchmarkCase, Unavailable
from atto_det.complexity.latency import Contestant, Mark, measure, peak_memory_of
from atto_det.data.sample import sample_picture
from atto_det.errors import UserError
from atto_det.reports.latency import Latency

from .analysis import build_named, parse_size
from .baselines import ZOO_CONFIGS
from .inference import optimise_for_inference
from .regions import fix_regions

MODES = ("eager", "fast", "compile")
MEMORY_MODES = ("eager", "fast", "torchvision")  # modes whose peak memory is that of a run


def parse_detector(text: str, size: str) -> tuple[str, int, int]:
    """Detector, height and width from "tiny.yaml@320x320", or from "tiny.yaml" with `size`.

    Raises:
        UserError: an invalid size.
    """
    name, at, own = text.rpartition("@")
    return (name, *parse_size(own)) if at else (text, *parse_size(size))


def make(
    case: BenchmarkCase, threads: int | None = None, build: Callable[..., Any] | None = None
) -> Contestant:
    """The contestant of a case, after one run.

    Args:
        build: makes what is timed from a case and a number of threads; None for Detectron2's.

    Raises:
        UserError: a faulty config or picture, a model that is not a Faster or Mask R-CNN, or too
            few proposals to give so many detections.
        Unavailable: the mode does not work here.
    """
    return _contestant((build or _detector)(case, threads))


def run(
    cases: Sequence[BenchmarkCase],
    *,
    repeats: int,
    warmup: int = 1,
    threads: int | None = None,
    memory: bool = True,
    others: Mapping[str, Callable[..., Any]] = MappingProxyType({}),
    say: Callable[[str], None] = print,
    progress: Callable[[range], Any] = iter,
) -> list[Latency]:
    """Time cases alternately; modes that do not work here are left out with a message.

    Peak memory is measured unless making the contestant (by compiling or exporting it) takes more
    memory than running it. All cases have one batch size and device.

    Args:
        others: modes of other engines, each with the function that makes their contestants from a
            case and a number of threads.

    Raises:
        UserError: as `make`, or no case works here.
    """
    detectors = []
    for case in cases:
        say(f"building {case.name}")
        try:
            detectors.append(others.get(case.mode, _detector)(case, threads))
        except Unavailable as reason:
            say(f"left out {case.name}: {reason}")
    if not detectors:
        raise UserError("none of the modes works here: add eager")
    batch, device = cases[0].batch, cases[0].device
    contestants = [_contestant(detector) for detector in detectors]
    timings = measure(
        contestants, repeats, batch=batch, warmup=warmup, device=device, progress=progress
    )
    latencies = []
    for detector, timing in zip(detectors, timings, strict=True):
        case, peak = detector.case, None
        if memory and case.mode in MEMORY_MODES:
            say(f"measuring peak memory of {case.name}")
            build = others.get(case.mode)
            again = functools.partial(make, case, threads, build)
            imports = [__name__, *([build.__module__] if build else [])]
            peak = peak_memory_of(again, device=device, imports=imports)
        name, size = Path(case.detector).stem, f"{case.height}x{case.width}"
        latencies.append(Latency(name, case.mode, size, *detector.limits, timing, peak))
    return latencies


def remarks(
    on: dict[str, Any],
    versions: dict[str, str],
    case: BenchmarkCase,
    latencies: Sequence[Latency],
    repeats: int,
    warmup: int,
) -> list[str]:
    """Sentences on how the figures were measured."""
    place = on.get("gpu") or f"{on['cpu']}, {on['threads']} threads of {on['cores']} cores"
    packages = ", ".join(f"{name} {version}" for name, version in versions.items())
    picture = case.image or "a painted picture"
    work = dict.fromkeys(
        f"{one.detector} at {one.size}: {one.proposals} proposals, {one.detections} detections."
        for one in latencies
        if one.proposals is not None
    )
    alone = dict.fromkeys(one.detector for one in latencies if one.proposals is None)
    return [
        f"On {place}. Batch {case.batch}; {repeats} rounds after {warmup} to warm "
        f"up, all detectors in turn; {picture}.",
        *work,
        "These are fixed in each picture; the weights are random. Reading and resizing the picture "
        "do not count.",
        *(f"{name}: the network of an ONNX file alone, on noise." for name in alone),
        f"Ratio: median over that of {latencies[0].detector} in the same mode; gain: the "
        "detector's own eager median over this. Parts are means over the middle half of the runs.",
        f"Versions: {packages}.",
    ]


def _contestant(detector: "_Detector") -> Contestant:
    return Contestant(detector.case.name, detector.run)


def _detector(case: BenchmarkCase, threads: int | None) -> "_Detector":
    if threads:
        torch.set_num_threads(threads)
    detector = _Detector(case, *_build(case))
    proposals, detections = detector.limits
    for found in detector.run(lambda name: None):  # this also fills caches, and compiles
        if len(found["instances"]) != detections:
            raise UserError(
                f"{proposals} proposals in {case.name} leave {len(found['instances'])} of "
                f"{detections} detections: lower --detections or raise --proposals"
            )
    return detector


def _build(case: BenchmarkCase) -> tuple[GeneralizedRCNN, tuple[int, int]]:
    """The model in its mode, and the numbers of proposals and detections."""
    torch.manual_seed(SEED)
    if case.detector not in ZOO_CONFIGS and not Path(case.detector).suffix:
        known = ", ".join(ZOO_CONFIGS)
        raise UserError(f"{case.detector} is neither a YAML file nor a baseline: {known}")
    model, _ = build_named(case.detector, case.classes)
    rpn, heads = model.proposal_generator, getattr(model, "roi_heads", None)
    known = isinstance(heads, StandardROIHeads | Res5ROIHeads)
    if not isinstance(rpn, RPN) or not known or isinstance(heads, CascadeROIHeads):
        raise UserError(f"{case.detector} is not a Faster or Mask R-CNN, which this times")
    model = model.to(case.device).eval()
    if case.mode != "eager":
        optimise_for_inference(model)
    if case.mode == "compile":
        _compile(model)
    proposals = case.proposals or rpn.post_nms_topk[False]
    detections = case.detections or heads.box_predictor.test_topk_per_image
    heads.box_predictor.test_topk_per_image = detections
    return model, (proposals, detections)


def _compile(model: GeneralizedRCNN) -> None:
    """Compile methods rather than modules, so that hooks on the modules stay outside."""
    bottom_up = getattr(model.backbone, "bottom_up", model.backbone)
    modules = [bottom_up, model.proposal_generator.rpn_head]
    heads = model.roi_heads
    modules.append(heads.res5 if isinstance(heads, Res5ROIHeads) else heads.box_head)
    for module in modules:
        module.forward = torch.compile(module.forward, dynamic=False)


class _Detector:
    """A model with its inputs; hooks mark its parts as it runs."""

    def __init__(
        self, case: BenchmarkCase, model: GeneralizedRCNN, limits: tuple[int, int]
    ) -> None:
        self.case, self.model, self.limits = case, model, limits
        self._mark: Mark = lambda name: None
        pixels = torch.as_tensor(
            sample_picture(case.height, case.width, case.image, SEED), device=case.device
        )
        one = {"image": pixels, "height": case.height, "width": case.width}
        self._inputs = [one] * case.batch
        fix_regions(model, limits[0], case.height, case.width)
        self._add_hooks(model)

    def run(self, mark: Mark) -> list[dict]:
        """One forward pass of the batch."""
        self._mark = mark
        with torch.inference_mode():
            try:
                found = self.model(self._inputs)
            except Exception as error:
                if self.case.mode != "compile":
                    raise
                reason = (str(error) or type(error).__name__).strip().splitlines()[0]
                raise Unavailable(f"torch.compile fails ({reason})") from error
        mark("mask pasting" if self.model.roi_heads.mask_on else "post-processing")
        return found

    def _add_hooks(self, model: GeneralizedRCNN) -> None:
        backbone, heads = model.backbone, model.roi_heads
        has_fpn = isinstance(backbone, FPN)
        self._before(backbone.bottom_up if has_fpn else backbone, "preprocessing")
        if has_fpn:
            self._after(backbone.bottom_up, "bottom_up")
        self._after(backbone, "fpn" if has_fpn else "backbone")
        self._after(model.proposal_generator, "rpn")
        self._after(heads.box_predictor, "box head")
        if isinstance(heads, Res5ROIHeads):  # one pooler for both; its first call is for boxes
            self._pooled = 0
            heads.pooler.register_forward_pre_hook(self._c4_pools)
            heads.pooler.register_forward_hook(self._c4_pooled)
        else:
            self._after(heads.box_pooler, "box pooling")
            if heads.mask_on:
                self._before(heads.mask_pooler, "post-processing")
                self._after(heads.mask_pooler, "mask pooling")
        if heads.mask_on:
            self._after(heads.mask_head, "mask head")

    def _before(self, module: nn.Module, part: str) -> None:
        module.register_forward_pre_hook(lambda module, args: self._mark(part))

    def _after(self, module: nn.Module, part: str) -> None:
        module.register_forward_hook(lambda module, args, output: self._mark(part))

    def _c4_pools(self, module: nn.Module, args: tuple) -> None:
        if self._pooled % 2:
            self._mark("post-processing")

    def _c4_pooled(self, module: nn.Module, args: tuple, output: Tensor) -> None:
        second = self._pooled % 2 and self.model.roi_heads.mask_on
        self._mark("mask pooling" if second else "box pooling")
        self._pooled += 1 if self.model.roi_heads.mask_on else 2
