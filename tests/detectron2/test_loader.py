"""Batches follow from (seed, iteration) alone, whoever computes them and whenever."""

import itertools
import json
import random
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from atto_det.detectron2 import loader as module
from atto_det.detectron2.loader import TrainLoader, training_dicts
from atto_det.errors import UserError
from atto_det.training import batches


@pytest.fixture
def config(config):
    """The tiny config of a model that also reads semantic labels."""
    return partial(config, "MODEL.META_ARCHITECTURE", "PanopticFPN")


def signature(batch: list[dict]) -> list[tuple]:
    """Everything that the model gets of a batch, comparable by ==."""
    return [
        (
            item["file_name"],
            item["image"].numpy().tobytes(),
            item["sem_seg"].numpy().tobytes(),
            item["instances"].gt_boxes.tensor.numpy().tobytes(),
            item["instances"].gt_masks.tensor.numpy().tobytes(),
            tuple(item["instances"].gt_classes.tolist()),
        )
        for item in batch
    ]


def take(loader: TrainLoader, count: int) -> list[list[tuple]]:
    return [signature(batch) for batch in itertools.islice(iter(loader), count)]


def test_the_stream_goes_on_where_it_was_left_with_any_number_of_workers(config):
    whole = take(TrainLoader(config()), 9)  # two epochs of four batches, and one batch
    assert len(set(map(str, whole))) > 4  # an epoch has four: augmentation differs between them
    for workers in (0, 2):
        loader = TrainLoader(config("DATALOADER.NUM_WORKERS", workers))
        loader.start = 3
        assert take(loader, 6) == whole[3:]
    assert take(TrainLoader(config("SEED", 2)), 3) != whole[:3]


def test_places_of_one_batch_are_augmented_differently(data_root, config):
    cfg = config("SOLVER.IMS_PER_BATCH", 16, "DATALOADER.ASPECT_RATIO_GROUPING", False)
    (batch,) = itertools.islice(iter(TrainLoader(cfg)), 1)  # each of the 8 pictures twice
    by_picture: dict[str, set] = {}
    for entry in signature(batch):
        by_picture.setdefault(entry[0], set()).add(entry)
    assert sorted(map(len, by_picture.values()))[-1] == 2
    assert len(by_picture) == 8


@pytest.mark.parametrize("workers", [0, 2])
def test_no_global_random_generator_moves(config, workers):
    iterator = iter(TrainLoader(config("DATALOADER.NUM_WORKERS", workers)))
    states = np.random.get_state(), random.getstate(), torch.get_rng_state()  # noqa: NPY002
    first, second = next(iterator), next(iterator)
    assert first
    assert second
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(a, b) for a, b in zip(states[0], after, strict=True))
    assert random.getstate() == states[1]
    # A draw at the iterator's start would make the first step after a resume differ.
    assert torch.equal(torch.get_rng_state(), states[2])


def test_what_was_drawn_before_does_not_matter(config):
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    one = take(TrainLoader(config()), 2)
    np.random.rand(7)  # noqa: NPY002
    random.random()
    assert take(TrainLoader(config()), 2) == one


def test_two_processes_share_each_batch(config, monkeypatch):
    cfg = config("SOLVER.IMS_PER_BATCH", 4)
    whole = take(TrainLoader(cfg), 3)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(batches, "ranks", lambda rank=rank: (rank, 2))
        shares.append(take(TrainLoader(cfg), 3))
    for batch, first, second in zip(whole, *shares, strict=True):
        assert len(first) == len(second) == 2
        assert first + second == batch
        assert not {entry[0] for entry in first} & {entry[0] for entry in second}


@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_that_the_processes_cannot_share_is_refused(config, monkeypatch, size):
    monkeypatch.setattr(batches, "ranks", lambda: (0, 2))
    with pytest.raises(UserError, match=rf"SOLVER.IMS_PER_BATCH is {size}: 2 processes"):
        TrainLoader(config("SOLVER.IMS_PER_BATCH", size))


def test_what_cannot_be_resumed_or_found_is_refused(config):
    cfg = config("DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler")
    with pytest.raises(UserError, match=r"RandomSubsetTrainingSampler.*choose TrainingSampler or"):
        TrainLoader(cfg)
    with pytest.raises(UserError, match=r"DATASETS.TRAIN names no data set"):
        TrainLoader(config("DATASETS.TRAIN", "()"))
    with pytest.raises(
        UserError, match="NO_HORIZONTAL_FLIP names mini_vox, which is neither a data set"
    ):
        TrainLoader(config("DATASETS.NO_HORIZONTAL_FLIP", "['mini_vox']"))


def test_pictures_without_objects_leave_training_unless_kept(config, voc_folder, tmp_path):
    root = voc_folder(tmp_path / "parts", ["wheel"], train=["full", "empty"])
    xml = root / "Annotations/empty.xml"
    start, end = xml.read_text().index("<object>"), xml.read_text().index("</annotation>")
    xml.write_text(xml.read_text()[:start] + xml.read_text()[end:])
    own = ["DATASETS.FOLDERS", f"[['parts', {str(root)!r}]]", "DATASETS.TEST", "()"]
    own += ["DATASETS.TRAIN", "['parts_train']"]
    assert [d["image_id"] for d in training_dicts(config(*own))] == ["full"]
    kept = training_dicts(config(*own, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False))
    assert [d["image_id"] for d in kept] == ["full", "empty"]
    (root / "ImageSets/Segmentation/train.txt").write_text("empty")
    with pytest.raises(UserError, match="no picture of parts_train has a usable object"):
        training_dicts(config(*own))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_worker_s_error_is_one_sentence_in_training_and_in_testing(
    config, voc_folder, tmp_path, workers
):
    root = voc_folder(tmp_path / "parts", ["wheel"], train=["a", "b"], val=["c"])
    own = ["DATASETS.FOLDERS", f"[['parts', {str(root)!r}]]", "DATALOADER.NUM_WORKERS", workers]
    own += ["DATASETS.TRAIN", "['parts_train']", "DATASETS.TEST", "['parts_val']"]
    cfg = config(*own)
    train, test = TrainLoader(cfg), module.TestLoader(cfg, "parts_val")
    for name in ("b", "c"):
        jpeg = root / f"JPEGImages/{name}.jpg"
        jpeg.write_bytes(jpeg.read_bytes()[:-40])
    for loader, name in ((train, "b.jpg"), (test, "c.jpg")):
        with pytest.raises(UserError, match=name) as caught:
            list(itertools.islice(iter(loader), 3))
        assert "\n" not in str(caught.value)
        assert "replace this file" in str(caught.value)


def test_the_test_loader_has_each_picture_once_in_order(config, data_root):
    batches = list(module.TestLoader(config(), "mini_voc_val"))
    listed = (data_root / "mini_voc/ImageSets/Segmentation/val.txt").read_text().split()
    assert [[item["image_id"] for item in batch] for batch in batches] == [[i] for i in listed]
    assert "instances" not in batches[0][0]
    assert len(module.TestLoader(config(), "mini_voc_val")) == 4


def test_a_test_set_without_pictures_is_refused(config, tmp_path):
    empty = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "wheel"}]}
    (tmp_path / "val.json").write_text(json.dumps(empty))
    rows = [["bare_val", str(tmp_path / "val.json"), str(tmp_path)]]
    cfg = config("DATASETS.COCO", rows)
    with pytest.raises(UserError, match="bare_val has no image to evaluate on"):
        module.TestLoader(cfg, "bare_val")
