"""What importing loads, twice and without Detectron2. Each in a process of its own."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import atto_det


def python(program: str) -> str:
    """What `program` prints; it must end well."""
    command = [sys.executable, "-W", "error::UserWarning", "-c", program]
    environment = os.environ | {"DETECTRON2_DATASETS": "none"}  # importing reads no data
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_light():
    loaded = python(
        "import sys, atto_det, atto_det.errors\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    ).split()
    heavy = {"torch", "torchvision", "detectron2", "timm", "cv2", "numpy", "matplotlib", "rich"}
    assert heavy.isdisjoint(loaded)


def test_nets_need_torch_alone():
    loaded = python(
        "import sys, atto_det\n"
        "atto_det.create_classifier('attonet_d', 2)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    ).split()
    assert "torch" in loaded
    assert {"torchvision", "detectron2", "timm", "cv2", "fvcore"}.isdisjoint(loaded)


def test_public_names():
    assert {"Predictor", "create_backbone", "create_classifier"} <= set(dir(atto_det))
    for name in set(atto_det.__all__) - {"Predictor", "optimise_for_inference"}:
        assert getattr(atto_det, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        atto_det.nonsense  # noqa: B018


def test_editors_see_the_public_names():
    """What is imported under TYPE_CHECKING is what is imported when a name is first asked for."""
    tree = ast.parse(Path(atto_det.__file__).read_text())
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: line.module for line in guarded.body for alias in line.names}
    assert sorted(seen) == sorted(atto_det.__all__)
    assert seen.pop("Predictor") == "atto_det.detectron2.predictor"
    assert seen == atto_det._HOMES


def test_without_detectron2():
    printed = python(
        "import sys\n"
        "sys.modules['detectron2'] = None\n"
        "import atto_det\n"
        "print(atto_det.create_backbone('attonet_d').channels['res5'])\n"
        "for attempt in range(2):\n"
        "    try:\n"
        "        import atto_det.detectron2\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
        "print(atto_det.Predictor.__module__)\n"
        "try:\n"
        "    atto_det.optimise_for_inference\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    ).splitlines()
    assert printed[0] == "140"
    assert len(printed) == 5  # one line each
    assert "needs Detectron2" in printed[4]
    for line in printed[1:3]:
        assert "needs Detectron2" in line
        assert "pip install" in line
    assert printed[3] == "atto_det.torchvision.predictor"


def test_detection_can_be_imported_and_reloaded():
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    printed = python(
        "import importlib, sys\n"
        "from detectron2.config import get_cfg\n"
        "from detectron2.data import DatasetCatalog, MetadataCatalog\n"
        "from detectron2.modeling import BACKBONE_REGISTRY, ROI_MASK_HEAD_REGISTRY\n"
        "from detectron2.modeling.proposal_generator import RPN_HEAD_REGISTRY\n"
        "before = get_cfg().dump(), set(DatasetCatalog.list())\n"
        "import atto_det.detectron2\n"
        "import atto_det.detectron2\n"
        "importlib.reload(atto_det.detectron2)\n"
        "for name in 'backbone', 'heads':\n"
        "    importlib.reload(sys.modules[f'atto_det.detectron2.{name}'])\n"
        "importlib.reload(atto_det.detectron2)\n"
        "assert get_cfg().dump() == before[0], 'the default config changed'\n"
        "assert before[1] < set(DatasetCatalog.list())\n"
        "print(*sorted(n for n, _ in BACKBONE_REGISTRY if 'attonet' in n))\n"
        "print(*sorted(set(DatasetCatalog.list()) - before[1]))\n"
        "print(len(MetadataCatalog.get('voc_2012_seg_train').thing_classes))\n"
        "print('timm' in sys.modules)\n"
        "registries = BACKBONE_REGISTRY, RPN_HEAD_REGISTRY, ROI_MASK_HEAD_REGISTRY\n"
        "print(*(n for r in registries for n, _ in r if 'separable' in n.lower()))\n"
    ).splitlines()
    assert printed[0].split() == [
        "build_attonet_backbone",
        "build_attonet_fpn_backbone",
        "build_resnet_fpn_started_as_attonet_backbone",
        "build_retinanet_attonet_fpn_backbone",
    ]
    assert printed[1].split() == [
        *(f"mini_voc_{split}" for split in ("train", "trainval", "val")),
        *(f"sbd_{split}" for split in ("train", "val")),
        *(f"voc_2012_seg_{split}" for split in ("train", "train_aug", "trainval", "val")),
    ]
    assert printed[2:4] == ["20", "False"]
    heads = ["build_separable_fpn_backbone", "SeparableRPNHead", "SeparableMaskHead"]
    assert printed[4].split() == heads
