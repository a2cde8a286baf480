"""Fixtures that several test modules share."""

import importlib.util
import itertools
import logging
import os
import sys
import time
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
COVERED = ("data", "nets")  # rooms under [tool.coverage.run] in pyproject.toml


def pytest_configure(config: pytest.Config) -> None:
    """Tests skip without the packages they need; where they must run, that is an error.

    Hypothesis gives its examples all the time they take: on a busy machine that may be long.
    """
    slow = hypothesis.HealthCheck.too_slow
    hypothesis.settings.register_profile("patient", deadline=None, suppress_health_check=[slow])
    hypothesis.settings.load_profile("patient")
    required = os.environ.get("ATTO_DET_REQUIRE", "").split()
    missing = [name for name in required if importlib.util.find_spec(name) is None]
    if missing:
        raise pytest.UsageError(f"missing, though in ATTO_DET_REQUIRE: {', '.join(missing)}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tracing doubles a test's time: a bare `--cov` measures in the tests of some rooms alone."""
    if any(isinstance(package, str) for package in config.getoption("cov_source", None) or ()):
        return  # --cov=atto_det.ops, say
    for item in items:
        if item.path.relative_to(REPOSITORY / "tests").parts[0] not in COVERED:
            item.add_marker("no_cover")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout that the tests run in."""
    return REPOSITORY


@pytest.fixture(scope="session")
def photos() -> Path:
    """Folder with real photos (VOC2012/, CarParts/); tests that need them skip without it."""
    root = Path(os.environ.get("ATTO_DET_PHOTOS", "photos"))
    if not (root / "VOC2012").is_dir():
        pytest.skip("no real photos: set ATTO_DET_PHOTOS to a folder with VOC2012/ and CarParts/")
    return root


@pytest.fixture(scope="session")
def fuzz():
    """A function that calls `target` with examples, by the seeds 0, 1 … until the time is over."""

    def run(target, strategy, *, seconds: float, examples: int) -> None:
        rules = hypothesis.settings(
            max_examples=examples,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        end = time.monotonic() + seconds
        for number in itertools.count():
            hypothesis.seed(number)(rules(hypothesis.given(strategy)(target)))()
            if time.monotonic() >= end:
                break

    return run


@pytest.fixture(scope="session")
def mini_voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with a mini VOC of 8 + 4 pictures."""
    from atto_det.data import mini_voc

    root = tmp_path_factory.mktemp("data")
    mini_voc.generate(root / "mini_voc", train=8, val=4, seed=3, size=(96, 128))
    return root


@pytest.fixture
def data_root(mini_voc, monkeypatch, tmp_path) -> Path:
    """The data root of the mini VOC, in the environment."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(mini_voc))
    monkeypatch.setenv("ATTO_DET_CACHE", str(tmp_path / "cache"))
    return mini_voc


@pytest.fixture
def config(engine, data_root, repository, tmp_path):
    """A function from further options to the frozen tiny config, with its own OUTPUT_DIR.

    Where it is used, a fixture `engine` is the package of an engine.
    """

    def make(*options: object):
        given = ["OUTPUT_DIR", tmp_path / "out", *options]
        return engine.load_config(repository / "tests/tiny_mini_voc.yaml", list(map(str, given)))

    return make


@pytest.fixture(scope="session")
def trained(mini_voc, repository, tmp_path_factory) -> Path:
    """The checkpoint of two steps on the mini VOC, in the folder of its run."""
    from atto_det.detectron2 import load_config, run

    return _train(mini_voc, repository, tmp_path_factory, load_config, run)


@pytest.fixture(scope="session")
def trained_by_torchvision(mini_voc, repository, tmp_path_factory) -> Path:
    """As `trained`, by the other engine."""
    from atto_det.torchvision import load_config, run

    return _train(mini_voc, repository, tmp_path_factory, load_config, run)


def _train(mini_voc, repository, tmp_path_factory, load_config, run) -> Path:
    output = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETECTRON2_DATASETS", str(mini_voc))
        patch.setenv("ATTO_DET_CACHE", str(tmp_path_factory.mktemp("cache")))
        options = ["OUTPUT_DIR", str(output), "DATASETS.TEST", "()"]
        run.train(load_config(repository / "tests/tiny_mini_voc.yaml", options))
    return output / "model_final.pth"


@pytest.fixture(autouse=True)
def forget_logs():
    """A function that removes the log handlers of earlier commands and trainings.

    It is called after each test: in a process of their own, each would add handlers only once.
    """

    def close() -> None:
        for name in ("atto_det", "detectron2", "fvcore"):
            logger = logging.getLogger(name)
            for handler in logger.handlers[:]:
                logger.removeHandler(handler)
                handler.close()
        if logs := sys.modules.get("detectron2.utils.logger"):
            logs.setup_logger.cache_clear()

    yield close
    close()


@pytest.fixture
def short_turns(monkeypatch):
    """What is timed runs for a tenth of a second at a time, instead of a whole one."""
    from atto_det.complexity import latency

    monkeypatch.setattr(latency, "TURN", latency.TURN / 10)


OBJECT = """<object><name>{}</name><difficult>0</difficult><bndbox>
<xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"""


@pytest.fixture
def voc_folder():
    """A function that writes a folder in VOC layout: one rectangle of class 1 in each picture.

    The rectangle covers columns 8 to 23 and rows 16 to 39 of 64 columns and 48 rows; the pixels
    left of it are void.
    """
    import numpy as np
    from PIL import Image

    from atto_det.data.images import write_palette_png

    def write(root: Path, class_names, **splits: list[str]) -> Path:
        for name in ("JPEGImages", "Annotations", "SegmentationClass", "SegmentationObject"):
            (root / name).mkdir(parents=True, exist_ok=True)
        (root / "ImageSets/Segmentation").mkdir(parents=True, exist_ok=True)
        (root / "class_names.txt").write_text("\n".join(class_names))
        labels = np.zeros((48, 64), np.uint8)
        labels[16:40, 8:24] = 1
        labels[16:40, 4:8] = 255
        for split, ids in splits.items():
            (root / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(ids))
            for name in ids:
                pixels = np.full((48, 64, 3), 40, np.uint8)
                pixels[labels == 1] = (200, 30, 90)
                Image.fromarray(pixels).save(root / f"JPEGImages/{name}.jpg", quality=95)
                for folder in ("SegmentationClass", "SegmentationObject"):
                    write_palette_png(root / folder / f"{name}.png", labels)
                (root / f"Annotations/{name}.xml").write_text(
                    "<annotation><size><width>64</width><height>48</height></size>"
                    + OBJECT.format(class_names[0], 9, 17, 24, 40)
                    + "</annotation>"
                )
        return root

    return write


@pytest.fixture
def classifier(tmp_path):
    """A function that writes the checkpoint of a classifier, as the pretraining does.

    It takes the network's name and changes to the description, and returns the path and the
    network. All its norms are at work, with the statistics of a batch.
    """
    import torch

    from atto_det.nets.registry import short_name
    from atto_det.pretraining.networks import create_network

    def write(network: str = "attonet_d", **changes: object):
        description = {
            "format": 1,
            "network": network,
            "class_names": ["cat", "dög", "owl"],
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
            "channel_order": "RGB",
            "input_size": 64,
            "weight_bits": None,
            "recipe": "epochs: 12\n",
            "data": {"root": "TinyImageNet50", "train": 7500, "val": 2500},
            "top1": 31.4,
            "epoch": 12,
            "versions": {"torch": "2.15.0"},
            "command": "tools/pretrain.py fit",
        } | changes
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = create_network(network, len(description["class_names"]))
            for module in net.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    torch.nn.init.uniform_(module.weight, 0.5, 1.5)
                    torch.nn.init.normal_(module.bias, std=0.2)
                    module.momentum = 1.0
            with torch.no_grad():
                net.train()(torch.randn(4, 3, 64, 64))
        state = {f"net.{key}": value for key, value in net.eval().state_dict().items()}
        path = tmp_path / f"{short_name(network)}.ckpt"
        torch.save({"state_dict": state, "epoch": 12, "atto_det_pretraining": description}, path)
        return path, net

    return write


@pytest.fixture
def backbone(classifier, tmp_path):
    """A function that writes the backbone file of a `classifier`; it returns both."""
    from atto_det.weights import backbone_file

    def write(network: str = "attonet_d", **changes: object):
        path, net = classifier(network, **changes)
        file = tmp_path / f"{network}.safetensors"
        backbone_file.write_backbone(file, *backbone_file.read_pretraining(path))
        return file, net

    return write


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data root with `colours`: three classes, 12 + 5 noisy pictures of one colour each."""
    import numpy as np
    from PIL import Image

    root = tmp_path_factory.mktemp("classification")
    random = np.random.default_rng(5)
    for split, count in (("train", 12), ("val", 5)):
        for channel, name in enumerate(("blue", "green", "red")):
            folder = root / "colours" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 120, (40, 48, 3), np.uint8)
                pixels[..., 2 - channel] += 120
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return root


@pytest.fixture
def space():
    """A small space of networks."""
    from atto_det.design import Space

    stages = ("res2", "res3", "res4", "res5")
    return Space(
        stem=(4, 8),
        width={stage: (16 * 2**k, 24 * 2**k) for k, stage in enumerate(stages)},
        compress=dict.fromkeys(stages, (4, 8, 16)),
        mix=dict.fromkeys(stages, (4, 8)),
        kinds=("atto", "bottleneck", "condenser", "identity"),
        opening=("atto", "bottleneck"),
        depth={"res2": 2, "res3": 2, "res4": 3, "res5": 1},
    )


@pytest.fixture
def generator(space):
    """A generator around AttoNet-D in that space."""
    from atto_det.design import Requirements
    from atto_det.design.generator import Generator
    from atto_det.nets import get_spec

    return Generator.around(space, get_spec("attonet_d"), Requirements(), classes=5, size=64)
