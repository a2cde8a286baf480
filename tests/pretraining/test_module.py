"""The recipe, and runs of it."""

import math

import pytest
import torch
import torch.nn.functional as F

from atto_det.errors import UserError
from atto_det.pretraining.module import Classifier
from atto_det.weights.backbone_file import TRAINING_PART
from atto_det.weights.checkpoint import load_checkpoint
from atto_det.weights.create import create_backbone
from atto_det.weights.zoo import file_sha256


def classifier(**settings) -> Classifier:
    return Classifier("attonet_d", ["a", "b", "c"], **settings)


def test_the_cosine_schedule_by_hand():
    recipe = classifier(warmup_epochs=2)
    assert recipe.rate_factor(1, 12) == pytest.approx(0.5, abs=1e-3)
    assert recipe.rate_factor(2, 12) == 1
    assert recipe.rate_factor(7, 12) == pytest.approx(0.5)
    assert recipe.rate_factor(4.5, 12) == pytest.approx(0.5 * (1 + math.sqrt(0.5)))
    assert recipe.rate_factor(12, 12) == pytest.approx(0)


def test_the_step_schedule_by_hand():
    recipe = classifier(warmup_epochs=0, schedule="steps", milestones=[3, 5], gamma=0.1)
    rates = [recipe.rate_factor(epoch, 6) for epoch in (0, 2.9, 3, 4.9, 5, 6)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_weights_follow_from_the_seed():
    one, other = classifier(), classifier()
    stem = "stem.conv.conv.weight"
    first, second = (net.net.state_dict()[stem] for net in (one, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, classifier(seed=2).net.state_dict()[stem])


@pytest.mark.parametrize(
    ("name", "value"),
    [("momentum", 1.0), ("learning_rate", -1.0), ("ema_decay", 1.0), ("label_smoothing", 2.0)],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(UserError, match=f"model.{name} is {value}"):
        classifier(**{name: value})


def test_a_run_leaves_what_it_should(run, tmp_path):
    cli = run()
    folder = tmp_path / "run"
    names = {path.name for path in folder.iterdir()}
    assert {"best.ckpt", "last.ckpt", "config.yaml", "run1.json", "csv", "tensorboard"} <= names
    last = load_checkpoint(folder / "last.ckpt")
    part = last[TRAINING_PART]
    assert (part["network"], part["class_names"]) == ("attonet_d", ["blue", "green", "red"])
    assert (part["input_size"], part["channel_order"], part["epoch"]) == (32, "RGB", 2)
    assert part["data"] == {"root": "colours", "train": 36, "val": 15}
    assert "label_smoothing: 0.1" in part["recipe"]
    assert part["top1"] == pytest.approx(float(cli.trainer.callback_metrics["val_top1"]))
    header = (folder / "csv/version_0/metrics.csv").read_text().splitlines()[0].split(",")
    assert {"train_loss_epoch", "val_top1", "val_top5", "data_time", "step_time"} <= set(header)
    # Three classes have no five best: top-5 is of as many as there are.
    assert float(cli.trainer.callback_metrics["val_top5"]) == 100


def test_what_is_validated_is_the_average_that_the_checkpoint_holds(run, tmp_path):
    cli = run()
    part = load_checkpoint(tmp_path / "run/last.ckpt")
    averaged, current = part["state_dict"], part["current_model_state"]
    key = "net.res5.2.expand.conv.weight"
    assert not torch.equal(averaged[key], current[key])
    again = run("validate", ckpt_path=tmp_path / "run/last.ckpt")
    top1 = float(again.trainer.callback_metrics["val_top1"])
    assert top1 == pytest.approx(part[TRAINING_PART]["top1"])
    # By hand: the stored weights on the validation pictures.
    network = again.model.net.eval()
    network.load_state_dict({k.removeprefix("net."): v for k, v in averaged.items() if "net." in k})
    right = total = 0
    with torch.no_grad():
        for images, labels in again.datamodule.val_dataloader():
            right += int((network(images).argmax(1) == labels).sum())
            total += len(labels)
    assert top1 == pytest.approx(100 * right / total)
    assert cli.trainer.current_epoch == 2


def test_words_for_checkpoints_are_those_of_the_folder(run, tmp_path):
    with pytest.raises(UserError, match=r"--ckpt_path best: .*run/best.ckpt does not exist"):
        run("validate", ckpt_path="best")
    run(ckpt_path="last")  # which does not exist yet
    for word in ("last", "best"):
        part = load_checkpoint(tmp_path / f"run/{word}.ckpt")[TRAINING_PART]
        found = run("validate", ckpt_path=word).trainer.callback_metrics
        assert float(found["val_loss"]) == pytest.approx(part["figures"]["val_loss"])
    with pytest.raises(UserError, match="validate needs --ckpt_path"):
        run("validate")


def test_a_run_is_not_continued_over_another(run, tmp_path):
    for name in ("one", "other"):
        run(trainer__default_root_dir=tmp_path / name, trainer__max_epochs=1)
    last = tmp_path / "one/last.ckpt"
    with pytest.raises(UserError, match=r"other already holds a run, which .*one/last.ckpt would"):
        run(trainer__default_root_dir=tmp_path / "other", ckpt_path=last)
    run(trainer__default_root_dir=tmp_path / "third", ckpt_path=last)
    assert (tmp_path / "third/last.ckpt").exists()


def test_it_learns_colours(run):
    found = run(
        model__learning_rate=1.0, model__ema_decay=0, data__color_jitter=0, trainer__max_epochs=8
    ).trainer.callback_metrics
    assert found["val_top1"] > 90


def test_training_in_8_bits(run, tmp_path):
    cli = run(model__weight_bits=8, model__ema_decay=0)
    part = load_checkpoint(tmp_path / "run/last.ckpt")
    assert part[TRAINING_PART]["weight_bits"] == 8
    images = torch.randn(2, 3, 32, 32)
    module = cli.model.eval()
    assert not torch.equal(module(images), module.net(images))


def test_the_loss_is_smoothed_cross_entropy():
    module = classifier(label_smoothing=0.2, ema_decay=0).eval()
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])
    module.log = lambda *args, **kwargs: None
    log = F.log_softmax(module.net(images), dim=1)
    by_hand = -(0.8 * log[range(4), labels] + 0.2 * log.mean(1)).mean()
    torch.testing.assert_close(module.training_step([images, labels], 0), by_hand)


def test_accumulated_batches_have_the_rate_of_one_large_batch(run):
    cli = run(trainer__accumulate_grad_batches=3, trainer__max_epochs=1, model__learning_rate=0.64)
    [optimizer] = cli.trainer.optimizers
    assert optimizer.param_groups[0]["initial_lr"] == pytest.approx(0.64 * 4 * 3 / 256)
    assert cli.trainer.global_step == 3
    decays = {group["weight_decay"] for group in optimizer.param_groups}
    assert decays == {0.0, 1e-4}  # norms and biases have none


def test_a_start_needs_the_colours_that_it_was_trained_with(run, backbone):
    file, _ = backbone(mean=[0.5, 0.4, 0.3])
    with pytest.raises(UserError, match=r"set data.mean to \[0.5, 0.4, 0.3\] and data.std"):
        run(model__weights=file)


def test_a_training_from_a_backbone_file_says_so(run, backbone, tmp_path):
    file, _ = backbone()
    run(model__weights=file, model__learning_rate=1e-9)
    part = load_checkpoint(tmp_path / "run/last.ckpt")
    assert part[TRAINING_PART]["start"] == {"file": file.name, "sha256": file_sha256(file)}
    for key, value in create_backbone("attonet_d", weights=file).named_parameters():
        torch.testing.assert_close(part["state_dict"][f"net.{key}"], value)
    other, _ = backbone(top1=None)
    assert part[TRAINING_PART]["start"]["sha256"] != file_sha256(other)
    run(model__weights=other, ckpt_path="last", trainer__max_epochs=3)
    resumed = load_checkpoint(tmp_path / "run/last.ckpt")[TRAINING_PART]
    assert (resumed["epoch"], resumed["start"]) == (3, part[TRAINING_PART]["start"])


@pytest.mark.parametrize(
    ("network", "weights", "says"),
    [
        ("mobilenetv1_100", "distilled", "model.weights is for AttoNets and AttendNets"),
        ("attonet_d", "zoo:attonet_a-distilled", "holds attonet_a, not attonet_d"),
        ("attonet_d", "nowhere.pth", "nowhere.pth"),
    ],
)
def test_weights_that_a_training_cannot_start_from(run, network, weights, says):
    with pytest.raises(UserError, match=says):
        run(model__network=network, model__weights=weights)


@pytest.mark.slow
@pytest.mark.parametrize(
    "network", ["attonet_a", "mobilenetv1_100", "mobilenetv2_100", "shufflenet_v2_x1_0", "resnet50"]
)
def test_every_network_trains(run, network):
    assert run(model__network=network, trainer__max_epochs=1).trainer.global_step == 9
