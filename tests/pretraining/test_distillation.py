"""Crops that both networks see, the loss by hand, and trainings with a teacher."""

import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from PIL import Image

from atto_det.errors import UserError
from atto_det.pretraining import teacher
from atto_det.pretraining.answers import Answers, spread
from atto_det.pretraining.data import ClassifierData
from atto_det.pretraining.distillation import (
    CropRule,
    CropView,
    TaughtPictures,
    fingerprint,
    labels_among,
    soft_loss,
)
from atto_det.pretraining.module import Classifier
from atto_det.weights.backbone_file import TRAINING_PART
from atto_det.weights.checkpoint import load_checkpoint

WNIDS = {"blue": "n01440764", "green": "n01443537", "red": "n15075141"}  # 0, 1 and 999


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of a small network, whose answers are decided, and differ by colour."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(4)
        net = timm.create_model("test_efficientnet")
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        pictures = torch.randn(16, 3, 1, 1) + 0.5 * torch.randn(16, 3, 32, 32)
        net.train()(pictures)
        net.eval().classifier.weight *= 4 / net(pictures).std()
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    torch.save(net.state_dict(), path)
    return str(path)


@pytest.fixture
def taught(weights, monkeypatch):
    """Settings of a training with that teacher, computed by PyTorch, which takes less to start."""
    monkeypatch.setattr(teacher, "find_spec", lambda name: None)
    return {
        "model__teacher": "test_efficientnet",
        "model__teacher_weights": weights,
        "model__teacher_size": 32,
        "data__color_jitter": 0,
    }


@pytest.fixture
def named(colours, tmp_path):
    """The colours in folders named by classes of ImageNet."""
    for split in ("train", "val"):
        for colour, wnid in WNIDS.items():
            shutil.copytree(colours / "colours" / split / colour, tmp_path / "named" / split / wnid)
    return tmp_path / "named"


def view(size):
    return CropView(size, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")


def test_a_crop_follows_from_seed_number_and_picture_alone():
    picture, rule = Image.new("RGB", (60, 40)), CropRule((0.2, 1.0), 0.5, 1)
    crops = [rule.draw(picture, number, index) for number in range(10) for index in range(10)]
    torch.rand(3)
    assert crops == [rule.draw(picture, n, i) for n in range(10) for i in range(10)]
    assert len(set(crops)) > 90
    assert 30 < sum(crop.mirrored for crop in crops) < 70
    assert rule.draw(picture, 0, 0) != CropRule((0.2, 1.0), 0.5, 2).draw(picture, 0, 0)
    shares = [crop.height * crop.width / 2400 for crop in crops]
    assert 0.18 < min(shares) < max(shares) <= 1


def test_both_see_the_same_crop(tmp_path):
    ramp = np.zeros((90, 120, 3), np.uint8)
    ramp[..., 0], ramp[..., 1] = np.arange(120)[None] * 2, np.arange(90)[:, None] * 2
    Image.fromarray(ramp).save(tmp_path / "ramp.png")
    for rule in (CropRule((0.3, 0.8), 0.5, 1), None):
        pictures = TaughtPictures(
            [tmp_path / "ramp.png"], [-1], view(16), view(64), rule=rule, crop_share=0.8
        )
        for epoch in range(6):
            student, label, teacher = pictures[epoch, 0]
            assert (student.shape, teacher.shape, label) == ((3, 16, 16), (3, 64, 64), -1)
            # A step of the ramp is 2/127.5, and the mean of a cell of a ramp is its middle.
            torch.testing.assert_close(F.avg_pool2d(teacher, 4), student, atol=0.03, rtol=0)


def test_jitter_changes_what_the_student_sees_alone(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    plain, jittered = (
        TaughtPictures(
            [tmp_path / "a.png"],
            [-1],
            view(16),
            view(32),
            rule=CropRule((0.3, 0.8), 0.5, 1),
            color_jitter=strength,
        )[3, 0]
        for strength in (0.0, 0.4)
    )
    assert torch.equal(plain[2], jittered[2])
    assert not torch.equal(plain[0], jittered[0])


def test_the_loss_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    answers = torch.tensor([[0.8, 0.2], [0.75, 0.25]]).log()
    first = 0.8 * math.log(0.8 / 0.5) + 0.2 * math.log(0.2 / 0.5)
    assert soft_loss(logits, answers, 1.0).item() == pytest.approx(first / 2)
    # At temperature 2 the first answer, 4 to 1, is 2 to 1.
    first = 2 / 3 * math.log(4 / 3) + 1 / 3 * math.log(2 / 3)
    assert soft_loss(logits, answers, 2.0).item() == pytest.approx(4 * first / 2)


def test_hard_and_soft_share_the_loss():
    module = Classifier(
        "attonet_d", ["a", "b", "c"], hard_share=0.25, temperature=2, label_smoothing=0
    )
    logits, answers = torch.randn(4, 3), torch.randn(4, 3).log_softmax(1)
    labels = torch.tensor([2, -1, 0, -1])
    hard = -(logits.log_softmax(1)[[0, 2], [2, 0]]).sum() / 4
    expected = 0.25 * hard + 0.75 * soft_loss(logits, answers, 2)
    torch.testing.assert_close(module.loss(logits, labels, answers), expected)
    unlabelled = module.loss(logits, torch.full((4,), -1), answers)
    torch.testing.assert_close(unlabelled, 0.75 * soft_loss(logits, answers, 2))


def test_labels_come_from_the_folders_names():
    paths = [Path("/d/train/b/images/1.jpg"), Path("/d/train/c/1.jpg"), Path("/d/train/2.jpg")]
    assert labels_among(paths, Path("/d/train"), ["a", "b"]) == [1, -1, -1]


def test_the_fingerprint_is_of_names_and_bytes(tmp_path):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        path.write_bytes(path.name.encode())
    before = fingerprint(paths, tmp_path)
    assert before["number"] == 2
    assert before == fingerprint(paths, tmp_path)
    assert before != fingerprint(paths[:1], tmp_path)
    paths[1].write_bytes(b"c.png")
    assert before != fingerprint(paths, tmp_path)
    paths.append(tmp_path / os.fsdecode(b"caf\xe9.png"))  # not UTF-8
    paths[-1].write_bytes(b"")
    assert fingerprint(paths, tmp_path)["number"] == 3


def test_stored_answers_are_those_to_the_crops(weights, named, tmp_path):
    def make(**settings):
        return ClassifierData(
            str(named),
            image_size=24,
            batch_size=4,
            workers=0,
            teacher="test_efficientnet",
            teacher_weights=weights,
            teacher_size=32,
            **settings,
        )

    at_hand, stored = make(), make(answers=str(tmp_path / "answers"), crops=2)
    stored.prepare_data()
    assert at_hand.known == (0, 1, 999)
    for epoch in (0, 1, 2):
        one, other = at_hand.train_dataloader(), stored.train_dataloader()
        for loader in (one, other):
            loader.sampler.set_epoch(epoch)
        for (images, labels, seen), (same, same_labels, *short) in zip(one, other, strict=True):
            assert torch.equal(labels, same_labels)
            answers = at_hand.lessons.teacher.answer(seen)
            assert answers.max() > -3  # decided: of 1000 equal classes each has -6.9
            assert answers.std(0).max() > 0.5  # and not the same for all pictures
            if epoch < 2:  # the third epoch sees the first crops again
                torch.testing.assert_close(
                    spread(Answers(*short), 1000).topk(5).values,
                    answers.topk(5).values,
                    atol=1e-2,
                    rtol=1e-2,
                )
            assert torch.equal(images, same) == (epoch < 2)


def test_a_training_reports_agreement_and_top1(run, named, taught, tmp_path):
    settings = taught | {"data__root": named, "data__answers": tmp_path / "answers"}
    cli = run(**settings, data__crops=1, model__hard_share=0.5)
    found = cli.trainer.callback_metrics
    assert {"val_loss", "val_agreement", "val_top1", "val_top5", "val_top1_known"} <= set(found)
    best = load_checkpoint(tmp_path / "run/best.ckpt")
    part = best[TRAINING_PART]
    assert part["class_names"][:2] == ["n01440764", "n01443537"]
    assert (part["data"]["train"], part["data"]["teacher"]) == (36, "test_efficientnet")
    assert not any("teacher" in key for key in best["state_dict"])
    # By hand, from the stored answers and the network that was validated.
    again = run("validate", ckpt_path=tmp_path / "run/last.ckpt", **settings)
    net, agree, right, known = again.model.net.eval(), 0, 0, 0
    with torch.no_grad():
        for images, labels, classes, _ in again.datamodule.val_dataloader():
            logits = net(images)
            agree += int((logits.argmax(1) == classes[:, 0]).sum())
            right += int((logits.argmax(1) == labels).sum())
            among = torch.tensor([0, 1, 999])[logits[:, [0, 1, 999]].argmax(1)]
            known += int((among == labels).sum())
    found = again.trainer.callback_metrics
    assert float(found["val_agreement"]) == pytest.approx(100 * agree / 15)
    assert float(found["val_top1"]) == pytest.approx(100 * right / 15)
    assert float(found["val_top1_known"]) == pytest.approx(100 * known / 15)


def test_a_flat_folder_without_labels_and_no_stored_answers(run, taught, colours, tmp_path):
    for path in sorted((colours / "colours/train").rglob("*.png")):
        target = tmp_path / f"flat/{path.parent.name}{path.name}"
        target.parent.mkdir(exist_ok=True)
        shutil.copy(path, target)
    cli = run(**taught, data__root=tmp_path / "flat", trainer__max_epochs=1)
    found = cli.trainer.callback_metrics
    assert "val_agreement" in found
    assert "val_top1" not in found
    assert load_checkpoint(tmp_path / "run/best.ckpt")[TRAINING_PART]["top1"] is None


def test_it_learns_what_the_teacher_says():
    module = Classifier("attonet_d", [str(n) for n in range(30)], label_smoothing=0).train()
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(8, 3, 32, 32, generator=generator)
    answers = 4 * torch.randn(8, 30, generator=generator)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(12):
        loss = module.loss(module(images), torch.full((8,), -1), answers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 3


def test_resumed_is_as_never_stopped(run, taught, named, tmp_path):
    settings = taught | {"data__root": named, "data__answers": tmp_path / "answers"}
    common = {"data__crops": 2, "model__schedule": "steps", **settings}
    run(**common, trainer__max_epochs=2)
    whole = load_checkpoint(tmp_path / "run/last.ckpt")
    output = tmp_path / "other"
    run(**common, trainer__max_epochs=1, trainer__default_root_dir=output)
    run(**common, trainer__max_epochs=2, trainer__default_root_dir=output, ckpt_path="last")
    again = load_checkpoint(output / "last.ckpt")
    for key, value in whole["state_dict"].items():
        assert torch.equal(value, again["state_dict"][key]), key


def test_resuming_with_another_teacher_is_refused(run, taught, weights, named, tmp_path):
    settings = taught | {"data__root": named}
    run(**settings, trainer__max_epochs=1)
    state = torch.load(weights)
    state["classifier.bias"] = state["classifier.bias"] + 1
    torch.save(state, tmp_path / "other.pth")
    for other in (
        {"model__teacher_weights": str(tmp_path / "other.pth")},
        {"model__teacher_size": 64},
    ):
        with pytest.raises(UserError, match="learned from another teacher"):
            run(**settings | other, trainer__max_epochs=2, ckpt_path="last")


def test_store_answers_ahead(run, taught, named, tmp_path):
    folder = tmp_path / "answers"
    settings = taught | {"data__root": named, "data__answers": folder, "data__crops": 2}
    run("store_answers", **settings)
    assert len(list(folder.rglob("*.safetensors"))) == 3
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="answers of another seed"):
        run(seed_everything=2, **settings)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model__teacher_weights": None}, "model.teacher_weights, or neither"),
        ({"model__teacher": None, "model__teacher_weights": None}, "data.answers are a teacher's"),
        ({"data__auto_augment": "rand-m7-mstd0.5"}, "cannot be combined with model.teacher"),
        ({"data__crops": 0}, "data.crops"),
        ({"model__temperature": 0}, "model.temperature must be above 0"),
        ({"model__hard_share": 1.5}, "model.hard_share from 0 to 1"),
    ],
)
def test_settings_that_do_not_go_together(run, taught, tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        run(**taught | {"data__answers": tmp_path / "answers"} | changes)


def test_storing_needs_a_teacher_and_a_folder(run, taught):
    with pytest.raises(UserError, match="no answers to store without"):
        run("store_answers")
    with pytest.raises(UserError, match=r"--data.answers FOLDER"):
        run("store_answers", **taught)


def test_a_picture_that_cannot_be_read(run, taught, named, tmp_path):
    broken = next(named.rglob("train/*/*.png"))
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(UserError, match="cannot be read as a picture"):
        run(**taught, data__root=named, data__answers=tmp_path / "answers")
    with pytest.raises(UserError, match="cannot be read as a picture"):
        run(**taught, data__root=named)
