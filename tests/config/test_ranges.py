"""Which values keys may have: the table, both engines, and what a user reads."""

import json
import math
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yacs.config import CfgNode

from atto_det.config import ConfigReader
from atto_det.config.ranges import RANGES, leaves
from atto_det.errors import UserError
from atto_det.torchvision.config import configs

# A good and a bad value of every key in the table; of some, one for each thing that is wrong.
SHARE, ABOVE_ZERO, NOT_NEGATIVE = (1.0, [-0.1, 1.5, math.nan]), (1e-9, [0.0]), (0.0, [-1e-9])
COUNT, COUNT_OR_NONE, PIXELS = (1, [0, -1, 10**23]), (0, [-1]), (1, [0, -5, 100_001])
CHANNELS, NORM, WHOLE_SHARES = (1, [0, 10**6]), ("GN", ["XN"]), ([0.0, 1.0], [[], [2.0], ["a"]])
NAMES = (["a"], [[["x"]], [3], [""]])
PATH = ("~/a b.pth", ["a\0b", "~nosuchuser/a", "x" * 5000, "x" * 256, "\ud800"])
WEIGHTS = ((1.0, 1.0, 2.0, 2.0), [(1.0,) * 3, (0.0, 1.0, 1.0, 1.0)])
LABELS = ([0, -1, 1], [[0], [0, 1, 2], ["a", 1, 1]])
VALUES = {
    "MODEL.WEIGHTS": PATH,
    "MODEL.PIXEL_MEAN": ([0.0, -1.0, 300.0], [[], [math.inf, 1.0, 1.0], ["a", 1.0, 1.0]]),
    "MODEL.PIXEL_STD": ([0.5, 1.0, 58.0], [[0.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [1.0, 1.0]]),
    "MODEL.BACKBONE.FREEZE_AT": (5, [-1, 6]),
    "MODEL.ATTONET.NAME": ("attonet_b", [""]),
    "MODEL.ATTONET.NORM": ("SyncBN", ["GN", ""]),
    "MODEL.TIMM.WEIGHTS": PATH,
    "MODEL.SEPARABLE.RPN_NORM": ("BN", ["GN"]),
    "MODEL.FPN.IN_FEATURES": NAMES,
    "MODEL.FPN.OUT_CHANNELS": CHANNELS,
    "MODEL.FPN.NORM": NORM,
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": (0, [-1]),
    "MODEL.ANCHOR_GENERATOR.SIZES": ([[32, 40.5]], [[], [[]], [[0]], [["a"]], [[-32]]]),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": ([0.5, 2.0], [[], [[0.0]], [[math.inf]]]),
    "MODEL.ANCHOR_GENERATOR.OFFSET": SHARE,
    "MODEL.RPN.IN_FEATURES": NAMES,
    "MODEL.RPN.BOUNDARY_THRESH": (-1, [-2]),
    "MODEL.RPN.IOU_THRESHOLDS": WHOLE_SHARES,
    "MODEL.RPN.IOU_LABELS": LABELS,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": COUNT,
    "MODEL.RPN.POSITIVE_FRACTION": (0.5, [7.0]),
    "MODEL.RPN.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.RPN.BBOX_REG_WEIGHTS": WEIGHTS,
    "MODEL.RPN.SMOOTH_L1_BETA": NOT_NEGATIVE,
    "MODEL.RPN.LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": COUNT,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TEST": COUNT,
    "MODEL.RPN.NMS_THRESH": SHARE,
    "MODEL.RPN.CONV_DIMS": ([-1, 64], [[], [0]]),
    "MODEL.ROI_HEADS.NUM_CLASSES": (0, [-1]),
    "MODEL.ROI_HEADS.IN_FEATURES": NAMES,
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": ([0.4], [[], [2.0], [0.4, 0.5]]),
    "MODEL.ROI_HEADS.IOU_LABELS": ([0, 1], [[0], [0, -1, 1]]),
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": COUNT,
    "MODEL.ROI_HEADS.POSITIVE_FRACTION": SHARE,
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": SHARE,
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": SHARE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS": WEIGHTS,
    "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA": NOT_NEGATIVE,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": (7, [0, 10_000]),
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": (2, [-1, 1000]),
    "MODEL.ROI_BOX_HEAD.NUM_FC": (2, [-1]),
    "MODEL.ROI_BOX_HEAD.FC_DIM": CHANNELS,
    "MODEL.ROI_BOX_HEAD.NUM_CONV": (0, [-1]),
    "MODEL.ROI_BOX_HEAD.CONV_DIM": CHANNELS,
    "MODEL.ROI_BOX_HEAD.NORM": NORM,
    "MODEL.ROI_BOX_HEAD.FED_LOSS_NUM_CLASSES": COUNT,
    "MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS": ([WEIGHTS[0]] * 2, [[], [1.0], WEIGHTS[1]]),
    "MODEL.ROI_BOX_CASCADE_HEAD.IOUS": WHOLE_SHARES,
    "MODEL.ROI_MASK_HEAD.NUM_CONV": (4, [-1]),
    "MODEL.ROI_MASK_HEAD.CONV_DIM": CHANNELS,
    "MODEL.ROI_MASK_HEAD.NORM": NORM,
    "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION": (14, [0]),
    "MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO": (0, [-1]),
    "MODEL.RETINANET.NUM_CLASSES": (0, [-1]),
    "MODEL.RETINANET.IN_FEATURES": NAMES,
    "MODEL.RETINANET.NUM_CONVS": (1, [0]),
    "MODEL.RETINANET.IOU_THRESHOLDS": WHOLE_SHARES,
    "MODEL.RETINANET.IOU_LABELS": LABELS,
    "MODEL.RETINANET.PRIOR_PROB": (0.5, [0.0, 1.0]),
    "MODEL.RETINANET.SCORE_THRESH_TEST": SHARE,
    "MODEL.RETINANET.TOPK_CANDIDATES_TEST": COUNT,
    "MODEL.RETINANET.NMS_THRESH_TEST": SHARE,
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": WEIGHTS,
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": NOT_NEGATIVE,
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": (-1.0, [-2.0, 2.0]),
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": NOT_NEGATIVE,
    "MODEL.RETINANET.NORM": NORM,
    "MODEL.RESNETS.DEPTH": (101, [0, 51]),
    "MODEL.RESNETS.OUT_FEATURES": NAMES,
    "MODEL.RESNETS.NUM_GROUPS": CHANNELS,
    "MODEL.RESNETS.NORM": NORM,
    "MODEL.RESNETS.WIDTH_PER_GROUP": CHANNELS,
    "MODEL.RESNETS.RES5_DILATION": (2, [0, 3]),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": CHANNELS,
    "MODEL.RESNETS.STEM_OUT_CHANNELS": CHANNELS,
    "MODEL.RESNETS.DEFORM_NUM_GROUPS": CHANNELS,
    "INPUT.MIN_SIZE_TRAIN": ((0, 800), [(-5, 800), ("a",), (1.5,)]),
    "INPUT.MAX_SIZE_TRAIN": PIXELS,
    "INPUT.MIN_SIZE_TEST": (1, [-1, 10**6]),
    "INPUT.MAX_SIZE_TEST": PIXELS,
    "INPUT.LSJ.SCALE_RANGE": ((0.5, 0.5), [(2.0, 0.1), (0.0, 1.0), (1.0,), ("a", "b")]),
    "INPUT.LSJ.SIZE": ((8, 9), [(0, 5), (8,), (8.5, 9.5)]),
    "INPUT.COPY_PASTE.PROBABILITY": SHARE,
    "INPUT.COPY_PASTE.MIN_VISIBLE": SHARE,
    "INPUT.COLOR_JITTER.BRIGHTNESS": SHARE,
    "INPUT.COLOR_JITTER.CONTRAST": SHARE,
    "INPUT.COLOR_JITTER.SATURATION": SHARE,
    "INPUT.COLOR_JITTER.HUE": (0.5, [0.6, -0.1]),
    "DATASETS.TRAIN": NAMES,
    "DATASETS.TEST": NAMES,
    "DATASETS.FOLDERS": ([["a", "~/b"]], [[["a", "b\0"]], [["a", "~nosuchuser/b"]]]),
    "DATASETS.COCO": ([["a", "b.json", "c", {"cat": None}]], [[["a", "b\0", "c"]]]),
    "DATASETS.NO_HORIZONTAL_FLIP": NAMES,
    "DATASETS.HOLD_OUT": COUNT_OR_NONE,
    "DATASETS.PROPOSAL_FILES_TRAIN": (("a.pkl",), [("a\0",), (3,)]),
    "DATASETS.PROPOSAL_FILES_TEST": (("a.pkl",), [("a\0",), (3,)]),
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN": COUNT,
    "DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST": COUNT,
    "DATALOADER.NUM_WORKERS": (0, [-1, 10**6]),
    "DATALOADER.REPEAT_THRESHOLD": SHARE,
    "SOLVER.IMS_PER_BATCH": COUNT,
    "SOLVER.ACCUMULATE": COUNT,
    "SOLVER.BASE_LR": (0.0, [-1.0, math.inf]),
    "SOLVER.BASE_LR_END": NOT_NEGATIVE,
    "SOLVER.MOMENTUM": (0.0, [5.0, 1.0, -0.1]),
    "SOLVER.WEIGHT_DECAY": NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_NORM": NOT_NEGATIVE,
    "SOLVER.WEIGHT_DECAY_BIAS": (None, ["a", -1.0, [1.0]]),
    "SOLVER.BIAS_LR_FACTOR": NOT_NEGATIVE,
    "SOLVER.GAMMA": NOT_NEGATIVE,
    "SOLVER.STEPS": ((), [(-1,), ("a",)]),
    "SOLVER.NUM_DECAYS": COUNT,
    "SOLVER.MAX_ITER": COUNT,
    "SOLVER.WARMUP_FACTOR": SHARE,
    "SOLVER.WARMUP_ITERS": COUNT_OR_NONE,
    "SOLVER.CHECKPOINT_PERIOD": COUNT,
    "SOLVER.REFERENCE_WORLD_SIZE": (0, [-1]),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ABOVE_ZERO,
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": (math.inf, [0.0, -1.0]),
    "SOLVER.EMA.DECAY": (0.999, [1.0, -0.1]),
    "TEST.EVAL_PERIOD": COUNT_OR_NONE,
    "TEST.PATIENCE": COUNT_OR_NONE,
    "TEST.DETECTIONS_PER_IMAGE": (1, [0, -1]),
    "TEST.AUG.MIN_SIZES": ((8,), [(0,), ("a",)]),
    "TEST.AUG.MAX_SIZE": PIXELS,
    "TEST.PRECISE_BN.NUM_ITER": COUNT,
    "OUTPUT_DIR": PATH,
    "SEED": (2**32 - 1, [2**32, -2, 10**23]),
    "VIS_PERIOD": COUNT_OR_NONE,
}


@cache
def readers() -> list[ConfigReader]:
    """Of the engines that are installed."""
    try:
        from atto_det.detectron2.config import configs as detectron2
    except ImportError:
        return [configs]
    return [configs, detectron2]


@cache
def keys_of(reader: ConfigReader) -> dict[str, object]:
    return dict(leaves(reader.defaults()))


def nested(key: str, value: object) -> dict:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def read(reader: ConfigReader, key: str, value: object) -> str:
    """The sentence on a value in a file; empty where it is taken."""
    says = ""
    try:
        reader.merged(nested(key, value), "f.yaml", [])
    except UserError as error:
        says = str(error)
    assert "\n" not in says
    assert len(says) < 1000
    return says


def test_every_key_that_takes_a_number_or_a_list_is_in_the_table():
    """The others are True or False, text, or of one value in this engine."""
    assert set(VALUES) == set(RANGES)
    for reader in readers():
        free = {  # choices that an engine checks, and what no detector of ours reads
            key
            for key, value in keys_of(reader).items()
            if key not in RANGES and not isinstance(value, bool | str)
        }
        assert all(key.startswith(UNREAD) for key in free), free


UNREAD = (
    *("VERSION", "GLOBAL", "MODEL.ANCHOR_GENERATOR.ANGLES", "MODEL.ROI_KEYPOINT_HEAD"),
    *("MODEL.SEM_SEG_HEAD", "MODEL.PANOPTIC_FPN", "MODEL.RESNETS.DEFORM_ON_PER_STAGE"),
    *("MODEL.ROI_BOX_HEAD.FED_LOSS", "TEST.EXPECTED_RESULTS", "TEST.KEYPOINT", "INPUT.CROP.SIZE"),
)


@pytest.mark.parametrize("key", sorted(VALUES))
def test_a_good_value_is_taken_and_a_bad_one_named(key):
    good, bad = VALUES[key]
    for reader in readers():
        if key not in keys_of(reader):
            assert reader is configs  # of models that it does not build
            continue
        says = read(reader, key, good)
        assert not says or "does not support" in says or "it needs" in says
        for value in bad:
            assert f"{key} " in read(reader, key, value), value


def test_keys_that_do_not_fit_each_other():
    [reader, *_] = readers()
    options = ["SOLVER.NESTEROV", "True", "SOLVER.MOMENTUM", "0.0"]
    with pytest.raises(UserError, match=r"line: SOLVER.NESTEROV is True: it needs a SOLVER.MOMEN"):
        reader.merged({}, "f.yaml", options)
    says = read(reader, "MODEL.PIXEL_STD", [1.0])
    assert (
        says == "f.yaml: MODEL.PIXEL_STD is [1.0]: it needs as many values as MODEL.PIXEL_MEAN has"
    )


def test_the_place_of_a_value_is_named(tmp_path):
    (tmp_path / "base.yaml").write_text("SEED: 1\nSOLVER:\n  BASE_LR: -1.0\n")
    top = tmp_path / "top.yaml"
    top.write_text("_BASE_: base.yaml\nTEST: {DETECTIONS_PER_IMAGE: -1}\n")
    for reader in readers():
        with pytest.raises(UserError) as caught:
            reader.read_file(top, ["TEST.DETECTIONS_PER_IMAGE", "1"])
        says = f"{tmp_path}/base.yaml, line 3: SOLVER.BASE_LR is -1.0: it must be at least 0"
        assert str(caught.value) == says
        options = ["SOLVER.BASE_LR", "-2.0", "TEST.DETECTIONS_PER_IMAGE", "1"]
        with pytest.raises(UserError, match=r"^the command line: SOLVER.BASE_LR is -2.0: "):
            reader.read_file(top, options)
        with pytest.raises(UserError, match=r"top.yaml, line 2: TEST.DETECTIONS_PER_IMAGE is -1"):
            reader.read_file(top, ["SOLVER.BASE_LR", "0.1"])


VALUE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**30, -(10**400), 1e308, "~nosuchuser", "\0", "(" * 99, "9" * 5000]),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=3), below),
    max_leaves=6,
)


@settings(max_examples=25)
@given(data=st.data(), value=VALUE)
def test_any_value_is_taken_or_refused_in_one_sentence(data, value):
    for reader in readers():
        key = data.draw(st.sampled_from(sorted(keys_of(reader))))
        for content in (value, json.dumps(value, default=str)):
            if not read(reader, key, content):
                cfg: CfgNode = reader.merged(nested(key, content), "f.yaml", [])
                assert cfg.dump()
