"""Batches: what they follow from, who gets which picture, what is refused."""

import random
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from atto_det.data.image_folder import ImageFolder
from atto_det.errors import UserError
from atto_det.pretraining.data import ClassifierData, LabelledPictures, SeededOrder, collate


@pytest.fixture
def make(colours, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(colours))
    return lambda **settings: ClassifierData(
        "colours", **{"image_size": 24, "batch_size": 4, "workers": 0} | settings
    )


def epoch_of(data: ClassifierData, epoch: int) -> list[list[torch.Tensor]]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def same(one: list, other: list) -> bool:
    return all(
        torch.equal(a, b)
        for x, y in zip(one, other, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_batches_have_the_shapes_they_should(make):
    data = make()
    images, labels = epoch_of(data, 0)[0]
    assert images.shape == (4, 3, 24, 24)
    assert images.dtype == torch.float32
    assert labels.shape == (4,)
    assert data.classes == ("blue", "green", "red")
    assert len(epoch_of(data, 0)) == 9


def test_an_epoch_follows_from_seed_and_number_alone(make):
    first = epoch_of(make(), 3)
    random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    assert same(first, epoch_of(make(), 3))
    assert not same(first, epoch_of(make(), 4))
    assert not same(first, epoch_of(make(seed=2), 3))


def test_worker_processes_draw_the_same_pictures(make):
    assert same(epoch_of(make(), 1), epoch_of(make(workers=2), 1))


def test_reading_a_picture_leaves_random_numbers_alone(make):
    data = make()
    pictures = LabelledPictures(data.train, data.augment, 1)
    torch.manual_seed(0), random.seed(0)
    expected = torch.rand(1), random.random()
    torch.manual_seed(0), random.seed(0)
    assert not torch.equal(pictures[0, 0][0], pictures[1, 0][0])  # another crop, another epoch
    assert (torch.rand(1), random.random()) == expected


def test_processes_share_the_training_pictures():
    folder = ImageFolder(("a",), tuple(range(10)), (0,) * 10)
    orders = [
        SeededOrder(LabelledPictures(folder, None, 1), 2, rank, seed=1, drop_last=True)
        for rank in (0, 1)
    ]
    for order in orders:
        order.set_epoch(5)
    places = [place for order in orders for place in order]
    assert sorted(places) == [(5, index) for index in range(10)]


def test_processes_share_the_validation_without_repeats(make, monkeypatch):
    data, seen = make(), []
    for rank in (0, 1):
        monkeypatch.setattr(data, "_ranks", lambda rank=rank: {"num_replicas": 2, "rank": rank})
        seen += [label for _, labels in data.val_dataloader() for label in labels.tolist()]
    assert sorted(seen) == sorted(data.val.labels)  # 15 pictures: uneven shares


def test_validation_takes_the_centre_and_normalises(tmp_path, monkeypatch):
    pixels = np.zeros((80, 80, 3), np.uint8)
    pixels[40 - 30 : 40 + 30, 40 - 30 : 40 + 30] = (255, 0, 51)  # 60 of 80: wider than the crop
    for split in ("train", "val"):
        (tmp_path / "one" / split / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "one" / split / "a" / "0.png")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    data = ClassifierData(
        "one", image_size=32, crop_share=0.5, workers=0, mean=(0.5, 0.5, 0.0), std=(0.5, 0.25, 0.1)
    )
    [(images, _)] = list(data.val_dataloader())
    torch.testing.assert_close(
        images[0], torch.tensor([1.0, -2.0, 2.0]).view(3, 1, 1).expand(3, 32, 32)
    )


def test_a_test_split_is_used_where_there_is_one(make, colours, tmp_path, monkeypatch):
    assert len(make().test_dataloader().dataset) == 15
    shutil.copytree(colours / "colours", tmp_path / "colours")
    shutil.copytree(colours / "colours/train", tmp_path / "colours/test")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert len(make().test_dataloader().dataset) == 36


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"image_size": 0}, "data.image_size"),
        ({"workers": -1}, "data.workers"),
        ({"scale": (0.5, 0.2)}, "data.scale"),
        ({"crop_share": 0}, "data.crop_share"),
        ({"std": (1, 1, 0)}, "data.std"),
        ({"auto_augment": "foo-m3"}, "data.auto_augment 'foo-m3' is not a policy"),
    ],
)
def test_settings_out_of_range(make, settings, sentence):
    with pytest.raises(UserError, match=sentence):
        make(**settings)


def test_fewer_pictures_than_a_batch(make):
    with pytest.raises(UserError, match=r"train holds 36 pictures, fewer than a batch of 37 "):
        make(batch_size=37).train_dataloader()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_truncated_picture_is_one_sentence_naming_it(
    make, colours, tmp_path, monkeypatch, workers
):
    shutil.copytree(colours / "colours", tmp_path / "colours")
    broken = tmp_path / "colours/val/red/3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    data = make(workers=workers)
    batches = list(data.val_dataloader())
    errors = [batch for batch in batches if isinstance(batch, UserError)]
    assert len(errors) == 1
    assert "red/3.png cannot be read as a picture" in str(errors[0])
    assert "Traceback" not in str(errors[0])
    with pytest.raises(UserError, match=r"red/3\.png"):
        data.on_before_batch_transfer(errors[0], 0)
    assert collate([(torch.zeros(3, 2, 2), 1)])[1].tolist() == [1]
