"""AttoNets in torchvision's own detectors."""

from functools import partial

import pytest
import torch
import torchvision
from torchvision.models.feature_extraction import create_feature_extractor

from atto_det.errors import UserError
from atto_det.nets.blocks import START_LENGTH
from atto_det.torchvision import (
    fasterrcnn_attonet_fpn,
    maskrcnn_attonet_fpn,
    retinanet_attonet_fpn,
)
from atto_det.weights import backbone_file

BUILDERS = [
    (
        maskrcnn_attonet_fpn,
        {"loss_mask", "loss_classifier", "loss_rpn_box_reg"},
    ),
    (fasterrcnn_attonet_fpn, {"loss_classifier", "loss_objectness"}),
    (retinanet_attonet_fpn, {"classification", "bbox_regression"}),
]


@pytest.mark.parametrize(("build", "losses"), BUILDERS, ids=[b.__name__ for b, _ in BUILDERS])
def test_it_trains_and_detects_by_torchvision_s_conventions(build, losses):
    torch.manual_seed(0)
    few = {"rpn_post_nms_top_n_train": 30, "rpn_post_nms_top_n_test": 20}
    few |= {"box_batch_size_per_image": 8, "box_detections_per_img": 5, "box_score_thresh": 0.0}
    if build is retinanet_attonet_fpn:
        few = {"score_thresh": 0.0, "detections_per_img": 5}
    model = build("attonet_d", num_classes=5, min_size=96, **few)
    images = [torch.rand(3, 90, 120), torch.rand(3, 100, 80)]
    target = {"boxes": torch.tensor([[10.0, 10, 60, 70]]), "labels": torch.tensor([4])}
    targets = [target | {"masks": torch.ones(1, *i.shape[1:], dtype=torch.uint8)} for i in images]
    found = model(images, targets)
    assert losses <= found.keys()
    sum(found.values()).backward()
    missing = [n for n, p in model.named_parameters() if p.grad is None]
    assert not missing
    with torch.inference_mode():
        detections = model.eval()(images)
    assert len(detections) == 2
    assert {"boxes", "labels", "scores"} <= detections[0].keys()
    assert len(detections[0]["labels"]) > 0
    assert int(detections[0]["labels"].min()) >= 1 or build is retinanet_attonet_fpn
    assert int(detections[0]["labels"].max()) <= 4
    if build is maskrcnn_attonet_fpn:
        assert detections[0]["masks"].shape[1:] == (1, 90, 120)


@pytest.mark.parametrize("build", [maskrcnn_attonet_fpn, retinanet_attonet_fpn])
def test_scripted_it_finds_the_same(build):
    torch.manual_seed(0)
    few = {"box_score_thresh": 0.0, "rpn_post_nms_top_n_test": 20, "box_detections_per_img": 11}
    if build is retinanet_attonet_fpn:
        few = {"score_thresh": 0.0, "detections_per_img": 11}
    model = build("attonet_d", num_classes=4, min_size=64, **few).eval()
    images = [torch.rand(3, 64, 96), torch.rand(3, 60, 70)]
    with torch.no_grad(), torch.jit.optimized_execution(False):  # optimising takes longest
        wanted, (losses, found) = model(images), torch.jit.script(model)(images)
    assert losses == {}
    for one, other in zip(wanted, found, strict=True):
        assert len(one["boxes"]) > 10
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert torch.allclose(value, other[key], atol=1e-5), key


def test_its_features_have_names_in_a_graph():
    backbone = maskrcnn_attonet_fpn("attonet_d", num_classes=2).backbone.eval()
    names = {"body.stem.conv.conv": "first", "body.res3": "res3", "getitem_3": "last"}
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, levels = create_feature_extractor(backbone, names)(image), backbone(image)
        body = backbone.body(image)
    assert found["first"].shape == (1, 3, 32, 32)
    assert torch.equal(found["res3"], body["res3"])
    assert torch.equal(found["last"], levels["3"])


def test_layers_are_frozen_under_weights_alone():
    """As torchvision's own do it: random weights that never move would be of no use."""
    with pytest.warns(UserWarning, match="no effect .*so that all layers are trainable"):
        model = maskrcnn_attonet_fpn("attonet_d", trainable_backbone_layers=1)
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["maskrcnn", "fasterrcnn", "retinanet"])
def test_torchvision_s_reference_scripts_build_it_by_name(kind):
    # The call of references/detection/train.py.
    model = torchvision.models.get_model(
        f"{kind}_attonet_d_fpn",
        weights=None,
        weights_backbone=None,
        num_classes=21,
        trainable_backbone_layers=None,
    )
    assert type(model).__module__.startswith("torchvision.models.detection")
    assert f"{kind}_attonet_a_fpn" in torchvision.models.list_models()
    assert list(torchvision.models.get_model_weights(f"{kind}_attonet_a_fpn")) == []


def test_a_backbone_file_fills_the_network(backbone):
    file, net = backbone()
    model = maskrcnn_attonet_fpn("attonet_d", num_classes=3, weights_backbone=file).eval()
    image = torch.rand(1, 3, 64, 96)
    wanted = net.eval().backbone.stem(image)
    assert torch.allclose(model.backbone.body.stem(image), wanted, atol=1e-6)
    trained = {n.split(".")[1] for n, p in model.backbone.named_parameters() if p.requires_grad}
    assert {"res3", "res4", "res5"} <= trained  # three layers, as torchvision's default is
    assert not {"stem", "res2"} & trained
    frozen = retinanet_attonet_fpn(
        "attonet_d", weights_backbone=file, norm="FrozenBN", trainable_backbone_layers=0
    )
    assert not any(p.requires_grad for p in frozen.backbone.body.parameters())


def test_filters_before_norms_that_train_get_the_length_they_learn_with(classifier, tmp_path):
    """As in this project's detectors; the features of the classifier stay, and frozen filters."""
    path, net = classifier("attonet_d")
    state, description = backbone_file.read_pretraining(path)
    long = {key: value.clone() for key, value in state.items()}
    for name in [k for k in state if k.endswith("conv.weight")]:
        norm = name.removesuffix("conv.weight") + "norm."
        long[name] *= 8  # as a long training leaves them
        long[norm + "running_mean"] *= 8
        long[norm + "running_var"] *= 64
    file = tmp_path / "d.safetensors"
    backbone_file.write_backbone(file, backbone_file.without_head(long), description)
    build = partial(maskrcnn_attonet_fpn, "attonet_d", num_classes=3, weights_backbone=file)
    model = build(trainable_backbone_layers=3).eval()
    own = model.backbone.body.state_dict()
    for name, value in own.items():
        if name.endswith("conv.weight"):
            length = value.flatten(1).norm(dim=1)
            if name.startswith(("stem", "res2")):
                assert torch.equal(value, long[name])
            else:
                assert (length / START_LENGTH).log2().abs().max() <= 0.51
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    net.load_state_dict(long)
    with torch.no_grad():
        wanted, found = net.eval().backbone(image), model.backbone.body(image)
    for name in wanted:
        atol = 1e-3 * float(wanted[name].abs().max())
        torch.testing.assert_close(found[name], wanted[name], rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"network": "attonet_e"}, "unknown network 'attonet_e'"),
        ({"weights": "DEFAULT"}, "no weights of whole detectors"),
        ({"trainable_backbone_layers": 6}, "trainable_backbone_layers is 6"),
        ({"norm": "GN"}, "unknown norm 'GN'"),
    ],
)
def test_mistakes_are_sentences(arguments, message):
    with pytest.raises(UserError, match=message):
        fasterrcnn_attonet_fpn(**arguments)


def test_weights_of_another_network_are_refused(backbone):
    file, _ = backbone()
    with pytest.raises(UserError, match="holds attonet_d, not attonet_c"):
        maskrcnn_attonet_fpn("attonet_c", weights_backbone=file)
    with pytest.raises(UserError, match="another mean colour"):
        maskrcnn_attonet_fpn("attonet_d", weights_backbone=file, image_mean=(0.5,) * 3)
