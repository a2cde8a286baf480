"""What the model gets of a picture: its pixels, labels and masks, and nothing half read."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

pytest.importorskip("detectron2", reason="Detectron2 is not installed")

from detectron2.data import DatasetCatalog

from atto_det.detectron2 import AttoDatasetMapper
from atto_det.detectron2.mapper import RecipeMapper, seed_augmentation
from atto_det.errors import UserError

NO_RESIZE = ["INPUT.MIN_SIZE_TRAIN", "(48,)", "INPUT.MAX_SIZE_TRAIN", 64]


@pytest.fixture
def parts(config, voc_folder, tmp_path):
    """A config function and the dict of the one picture of a folder written by hand."""
    root = voc_folder(tmp_path / "parts", ["wheel", "door"], train=["one"])
    own = ["DATASETS.FOLDERS", f"[['parts', {str(root)!r}]]", "DATASETS.TEST", "()"]
    own += ["DATASETS.TRAIN", "['parts_train']", "MODEL.META_ARCHITECTURE", "PanopticFPN"]

    def make(*options):
        return config(*own, *NO_RESIZE, *options)

    make()
    (item,) = DatasetCatalog.get("parts_train")
    return make, item


def mapped(cfg, item, draw=0, train=True):
    seed_augmentation(1, draw, 0)
    return AttoDatasetMapper(cfg, train)(item)


def test_pixels_and_labels_by_hand(parts):
    make, item = parts
    before = copy.deepcopy(item)
    result = mapped(make("INPUT.RANDOM_FLIP", "none"), item)
    assert item == before  # the data set's own dict stays as it is
    assert result["image"].shape == (3, 48, 64)
    assert result["image"].dtype == torch.uint8
    stored = np.asarray(Image.open(item["file_name"]).convert("RGB"))
    assert np.array_equal(result["image"].permute(1, 2, 0).numpy(), stored)  # RGB, as configured
    # By index: 0 background, 1 the first class, 255 void; as colours of the palette they are
    # (0, 0, 0), (128, 0, 0) and (224, 224, 192).
    labels = np.zeros((48, 64), np.int64)
    labels[16:40, 8:24], labels[16:40, 4:8] = 1, 255
    assert result["sem_seg"].dtype == torch.int64
    assert np.array_equal(result["sem_seg"].numpy(), labels)
    objects = result["instances"]
    assert objects.gt_classes.tolist() == [0]
    assert objects.gt_boxes.tensor.tolist() == [[8, 16, 24, 40]]
    assert np.array_equal(objects.gt_masks.tensor[0].numpy(), labels == 1)  # void is not a mask


def test_labels_are_read_only_for_who_may_need_them(parts):
    make, item = parts
    for draw in range(8):
        whole = mapped(make(), item, draw)
        without = mapped(make("MODEL.META_ARCHITECTURE", "GeneralizedRCNN"), item, draw)
        assert whole.keys() - without.keys() == {"sem_seg"}
        assert torch.equal(whole["image"], without["image"])
        one, other = whole["instances"], without["instances"]
        assert torch.equal(one.gt_boxes.tensor, other.gt_boxes.tensor)
        assert torch.equal(one.gt_masks.tensor, other.gt_masks.tensor)


def test_bgr_is_rgb_turned_around(parts):
    make, item = parts
    rgb = mapped(make("INPUT.RANDOM_FLIP", "none"), item)["image"]
    bgr = mapped(make("INPUT.RANDOM_FLIP", "none", "INPUT.FORMAT", "BGR"), item)["image"]
    assert torch.equal(bgr, rgb.flip(0))
    assert not torch.equal(bgr, rgb)


def test_semantic_labels_train_a_panoptic_fpn(config):
    cfg = config(
        *("MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 21),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", 32, "DATASETS.TEST", "()"),
        *("SOLVER.MAX_ITER", 1, "SEED", 3),
    )
    from detectron2.utils.events import EventStorage

    from atto_det.detectron2 import Trainer

    trainer = Trainer(cfg)
    with EventStorage(0) as trainer.storage:
        trainer.run_step()
        losses = trainer.storage.latest()
    assert 0 < losses["loss_sem_seg"][0] < 10


def flipped(cfg, item, draws=24):
    """How many of some draws mirror the picture; that labels and masks follow is asserted."""
    plain = mapped(cfg, item, train=False)["image"]
    count = 0
    for draw in range(draws):
        result = mapped(cfg, item, draw)
        width = result["image"].shape[2]
        mask = result["instances"].gt_masks.tensor[0]
        turned = not torch.equal(result["image"], plain)
        count += turned
        if turned:
            assert torch.equal(result["image"], plain.flip(2))
        expected = (width - 24, width - 8) if turned else (8, 24)
        assert mask.any(0).nonzero().flatten().tolist() == list(range(*expected))
        assert torch.equal(result["sem_seg"] == 1, mask)
        left, _, right, _ = result["instances"].gt_boxes.tensor[0].tolist()
        assert (left, right) == expected
    return count


def test_forbidden_flips_never_happen_and_allowed_ones_do(parts):
    make, item = parts
    cfg = make("INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 64)
    assert 4 <= flipped(cfg, item) <= 20
    assert flipped(cfg, item | {"no_horizontal_flip": True}, 60) == 0


def test_only_horizontal_flips_are_forbidden(parts):
    make, item = parts
    cfg = make("INPUT.RANDOM_FLIP", "vertical")
    item = item | {"no_horizontal_flip": True}
    rows = {
        tuple(mapped(cfg, item, draw)["instances"].gt_boxes.tensor[0, 1::2].tolist())
        for draw in range(20)
    }
    assert rows == {(16, 40), (8, 32)}


def test_masks_follow_resize_and_flip(parts):
    make, item = parts
    cfg = make("INPUT.MIN_SIZE_TRAIN", "(72, 96)", "INPUT.MAX_SIZE_TRAIN", 200)
    sizes = set()
    for draw in range(12):
        result = mapped(cfg, item, draw)
        _, height, width = result["image"].shape
        sizes.add((height, width))
        red = result["image"][0].float() > 120  # the object is red, its surroundings dark
        mask = result["instances"].gt_masks.tensor[0]
        assert mask.shape == (height, width)
        overlap = (red & mask).sum() / (red | mask).sum()
        assert overlap > 0.93
        assert torch.equal(result["sem_seg"] == 1, mask)
    assert sizes == {(72, 96), (96, 128)}


@pytest.mark.parametrize("train", [True, False])
def test_a_strip_keeps_a_pixel_of_its_narrow_side(parts, tmp_path, train):
    make, _ = parts
    Image.new("RGB", (1000, 2)).save(tmp_path / "strip.png")
    strip = {"file_name": str(tmp_path / "strip.png"), "height": 2, "width": 1000, "image_id": "s"}
    sizes = ["INPUT.MIN_SIZE_TEST", 48, "INPUT.MAX_SIZE_TEST", 64]
    assert mapped(make(*sizes), strip, train=train)["image"].shape == (3, 1, 64)


def test_boxes_alone_train_a_detector_of_boxes(parts):
    make, item = parts
    item = copy.deepcopy(item)
    del item["annotations"][0]["segmentation"]
    cfg = make("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NUM_CLASSES", 2)
    instances = mapped(cfg, item)["instances"]
    assert len(instances) == 1
    assert not instances.has("gt_masks")


def test_a_box_has_its_own_mask_and_void_is_in_none(config, data_root):
    own = ["INPUT.RANDOM_FLIP", "none", "INPUT.MIN_SIZE_TRAIN", "(0,)"]  # 0: no resizing
    cfg = config(*own, "MODEL.META_ARCHITECTURE", "PanopticFPN")
    for item in DatasetCatalog.get("mini_voc_train"):
        result = mapped(cfg, item)
        masks = result["instances"].gt_masks.tensor.numpy()
        assert len(masks) == len(item["annotations"])
        for mask, annotation in zip(masks, item["annotations"], strict=True):
            assert np.array_equal(mask, mask_utils.decode(annotation["segmentation"]) == 1)
        assert not masks[:, result["sem_seg"].numpy() == 255].any()


def test_testing_keeps_the_native_size_beside_the_resized_picture(parts):
    make, item = parts
    cfg = make("INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 400)
    result = mapped(cfg, item, train=False)
    assert result["image"].shape == (3, 96, 128)
    assert (result["height"], result["width"]) == (48, 64)
    assert not {"instances", "annotations", "sem_seg"} & set(result)


def break_jpeg(path):
    path.write_bytes(path.read_bytes()[:-60])


def enlarge(path):
    Image.new("RGB", (65, 48)).save(path)


def overwrite(path):
    path.write_text("no picture")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (break_jpeg, "truncated"),
        (enlarge, "measures 65×48 pixels, but its annotation says 64×48"),
        (overwrite, "cannot be read as a picture"),
        (lambda path: path.unlink(), "does not exist"),
    ],
)
@pytest.mark.parametrize("train", [True, False])
def test_a_damaged_picture_is_one_sentence_with_its_name(parts, damage, sentence, train, tmp_path):
    make, item = parts
    cfg = make()
    damage(tmp_path / "parts/JPEGImages/one.jpg")
    with pytest.raises(UserError, match=sentence) as caught:
        mapped(cfg, item, train=train)
    assert "parts/JPEGImages/one.jpg" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_label_image_is_one_sentence_with_its_name(parts, tmp_path):
    make, item = parts
    cfg = make()
    path = tmp_path / "parts/SegmentationClass/one.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"SegmentationClass/one.png"):
        mapped(cfg, item)


def test_polygons_are_refused_in_a_sentence(parts):
    make, item = parts
    with pytest.raises(UserError, match=r"INPUT.MASK_FORMAT is polygon.*bitmask"):
        mapped(make("INPUT.MASK_FORMAT", "polygon"), item)


PASTING = ["INPUT.COPY_PASTE.PROBABILITY", 1.0, "INPUT.RANDOM_FLIP", "none"]
PASTING += ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"]


def test_copy_paste_takes_every_form_of_mask_that_detectron2_s_data_sets_have(parts):
    make, item = parts
    cfg = make(*PASTING)
    [first] = item["annotations"]
    mask = mask_utils.decode(first["segmentation"])
    counts, value = [], 0
    for pixel in mask.T.ravel().tolist():  # COCO's uncompressed RLE
        if pixel == value and counts:
            counts[-1] += 1
        else:
            counts.append(1)
            value = pixel
    square = [8, 16, 24, 16, 24, 40, 8, 40]
    forms = [[square], {"size": [48, 64], "counts": counts}, first["segmentation"]]
    crowd = first | {"iscrowd": 1}
    for form in forms:
        annotations = [first | {"segmentation": form}, crowd]
        dicts = [item | {"annotations": annotations, "no_horizontal_flip": True}] * 2
        result = RecipeMapper(cfg)(dicts, 0, 1)
        objects = result["instances"]
        assert objects.gt_boxes.tensor.tolist()[-1] == [8, 16, 24, 40]
        assert np.array_equal(objects.gt_masks.tensor[-1].numpy(), mask)
        assert (result["height"], result["width"], result["image_id"]) == (48, 64, "one")
    boxes = RecipeMapper(make(*PASTING, "MODEL.MASK_ON", False))(dicts, 0, 1)["instances"]
    assert not boxes.has("gt_masks")
    dicts = [item | {"annotations": [first | {"segmentation": []}]}]
    with pytest.raises(UserError, match=r"an object in .*one.jpg has a box but no mask"):
        RecipeMapper(cfg)(dicts, 0, 1)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["INPUT.CROP.ENABLED", True], "INPUT.CROP.ENABLED True cannot be combined with INPUT.LSJ"),
        (["INPUT.RANDOM_FLIP", "vertical"], "INPUT.RANDOM_FLIP vertical cannot be combined with"),
        (["INPUT.MASK_FORMAT", "polygon"], "INPUT.MASK_FORMAT polygon cannot be combined with"),
        (["MODEL.META_ARCHITECTURE", "PanopticFPN"], "PanopticFPN cannot be combined with"),
    ],
)
def test_what_does_not_go_with_copy_paste_is_refused(parts, options, sentence):
    make, _ = parts
    with pytest.raises(UserError, match=sentence):
        RecipeMapper(make(*PASTING, *options))
