"""What the model trains on: by hand, and the same as Detectron2's mapper gives."""

import copy
import importlib
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from atto_det import data
from atto_det.data import Instance, catalog
from atto_det.errors import UserError
from atto_det.torchvision.mapper import Mapper, TrainLoader, training_pictures
from atto_det.training.augmentation import TrainingPicture
from atto_det.training.batches import draw_seeds


@pytest.fixture
def parts(config, voc_folder, tmp_path):
    """A config function and the record of the one picture of a folder written by hand."""
    root = voc_folder(tmp_path / "parts", ["wheel", "door"], train=["one"])
    own = ["DATASETS.FOLDERS", f"[['parts', {str(root)!r}]]", "DATASETS.TEST", "()"]
    own += ["DATASETS.TRAIN", "['parts_train']", "INPUT.MIN_SIZE_TRAIN", "(48,)"]

    def make(*options):
        return config(*own, *options)

    make()
    [record] = catalog.load_dataset("parts_train").records
    return make, record


def test_pixels_and_objects_by_hand(parts):
    make, record = parts
    before = copy.deepcopy(record)
    pixels, target = Mapper(make("INPUT.RANDOM_FLIP", "none"))(
        [TrainingPicture(record, True)], 0, 0
    )
    assert record == before
    stored = np.asarray(Image.open(record.file_name).convert("RGB"))
    assert pixels.dtype == torch.uint8
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), stored)
    assert target["labels"].tolist() == [1]  # from 1
    assert target["labels"].dtype == torch.int64
    assert target["boxes"].tolist() == [[8, 16, 24, 40]]
    mask = np.zeros((48, 64), np.uint8)
    mask[16:40, 8:24] = 1
    assert target["masks"].dtype == torch.uint8
    assert np.array_equal(target["masks"].numpy(), mask[None])


def test_a_flip_exchanges_left_and_right_and_can_be_forbidden(parts):
    make, record = parts
    mapper = Mapper(make())
    plain = mapper([TrainingPicture(record, False)], 0, 0)[0]
    turned = 0
    for seed in range(30):
        assert torch.equal(mapper([TrainingPicture(record, False)], 0, seed)[0], plain)
        pixels, target = mapper([TrainingPicture(record, True)], 0, seed)
        if not torch.equal(pixels, plain):
            turned += 1
            assert torch.equal(pixels, plain.flip(2))
            assert target["boxes"].tolist() == [[40, 16, 56, 40]]
            assert target["masks"][0].any(0).nonzero().flatten().tolist() == list(range(40, 56))
    assert 5 <= turned <= 25


def test_bgr_is_rgb_turned_around(parts):
    make, record = parts
    rgb, bgr = (
        Mapper(make("INPUT.FORMAT", f))([TrainingPicture(record, False)], 0, 0)[0]
        for f in ("RGB", "BGR")
    )
    assert torch.equal(bgr, rgb.flip(0))
    assert not torch.equal(bgr, rgb)


def test_sizes_are_chosen_from_a_list_or_an_interval(parts):
    make, record = parts
    shorts = {}
    for kind in ("choice", "range"):
        mapper = Mapper(
            make("INPUT.MIN_SIZE_TRAIN", "(60, 64)", "INPUT.MIN_SIZE_TRAIN_SAMPLING", kind)
        )
        shorts[kind] = {
            mapper([TrainingPicture(record, True)], 0, seed)[0].shape[1] for seed in range(60)
        }
    assert shorts == {"choice": {60, 64}, "range": {60, 61, 62, 63, 64}}
    longest = Mapper(make("INPUT.MIN_SIZE_TRAIN", "(90,)", "INPUT.MAX_SIZE_TRAIN", 100))
    assert longest([TrainingPicture(record, True)], 0, 0)[0].shape == (3, 75, 100)
    untouched = Mapper(make("INPUT.MIN_SIZE_TRAIN", "(0,)", "INPUT.MAX_SIZE_TRAIN", 10))
    assert untouched([TrainingPicture(record, True)], 0, 0)[0].shape == (3, 48, 64)
    for sizes, kind in (("(48,)", "range"), ("()", "choice")):
        cfg = make("INPUT.MIN_SIZE_TRAIN", sizes, "INPUT.MIN_SIZE_TRAIN_SAMPLING", kind)
        with pytest.raises(UserError, match=r"INPUT.MIN_SIZE_TRAIN is \[.*\]: give sizes"):
            Mapper(cfg)


def test_objects_of_which_nothing_is_left_are_dropped(parts):
    make, record = parts
    whole = record.instances[0]
    dot = np.zeros((48, 64), np.uint8)
    dot[1, 1] = 1  # gone when the picture shrinks to a quarter
    small = Instance(1, (1.0, 1.0, 2.0, 2.0), data.masks.encode_labels(dot)[1])
    outside = Instance(1, (64.0, 0.0, 70.0, 5.0), whole.rle)
    record = data.ImageRecord(
        record.image_id, record.file_name, 48, 64, (small, whole, outside), None
    )
    cfg = make("INPUT.MIN_SIZE_TRAIN", "(12,)", "INPUT.RANDOM_FLIP", "none")
    target = Mapper(cfg)([TrainingPicture(record, True)], 0, 0)[1]
    assert target["labels"].tolist() == [1]
    assert target["boxes"].tolist() == [[2, 4, 6, 10]]
    assert target["masks"].shape == (1, 12, 16)
    alone = data.ImageRecord(record.image_id, record.file_name, 48, 64, (small,), None)
    target = Mapper(cfg)([TrainingPicture(alone, True)], 0, 0)[1]
    assert [tuple(target[key].shape) for key in ("boxes", "labels", "masks")] == [
        (0, 4), (0,), (0, 12, 16),
    ]  # fmt: skip


def test_a_damaged_picture_is_one_sentence_with_its_name(parts):
    make, record = parts
    mapper = Mapper(make())
    with Image.open(record.file_name) as image:
        larger = image.resize((65, 48))
    larger.save(record.file_name)
    with pytest.raises(UserError, match=r"one.jpg measures 65×48 .* annotation says 64×48"):
        mapper([TrainingPicture(record, True)], 0, 0)


def test_pictures_without_objects_leave_training_unless_kept(config, voc_folder, tmp_path):
    root = voc_folder(tmp_path / "parts", ["wheel"], train=["full", "empty"])
    xml = root / "Annotations/empty.xml"
    start, end = xml.read_text().index("<object>"), xml.read_text().index("</annotation>")
    xml.write_text(xml.read_text()[:start] + xml.read_text()[end:])
    own = ["DATASETS.FOLDERS", f"[['parts', {str(root)!r}]]", "DATASETS.TEST", "()"]
    own += ["DATASETS.TRAIN", "['parts_train']", "DATASETS.NO_HORIZONTAL_FLIP", "['parts']"]
    assert [(r.image_id, may) for r, may in training_pictures(config(*own))] == [("full", False)]
    kept = training_pictures(config(*own, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False))
    assert [record.image_id for record, _ in kept] == ["full", "empty"]
    (root / "ImageSets/Segmentation/train.txt").write_text("empty")
    with pytest.raises(UserError, match="no picture of parts_train has a usable object"):
        training_pictures(config(*own))


def test_the_stream_goes_on_where_it_was_left_with_any_number_of_workers(config):
    def take(workers, start, count):
        loader = TrainLoader(config("DATALOADER.NUM_WORKERS", workers, "SOLVER.MAX_ITER", 9))
        loader.start = start
        assert len(loader) == 9 - start
        return [
            [(pixels.numpy().tobytes(), *(t.numpy().tobytes() for t in target.values()))
             for pixels, target in batch]
            for batch in itertools.islice(iter(loader), count)
        ]  # fmt: skip

    whole = take(0, 0, 6)
    assert len(set(map(str, whole))) > 4  # an epoch has four: augmentation differs between them
    assert take(0, 2, 4) == take(2, 2, 4) == whole[2:]


JITTER = ["INPUT.LSJ.ENABLED", "True", "INPUT.LSJ.SIZE", "(80, 96)"]
COLOR = ["INPUT.COLOR_JITTER.BRIGHTNESS", "0.4", "INPUT.COLOR_JITTER.HUE", "0.1"]


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["INPUT.MIN_SIZE_TRAIN_SAMPLING", "range", "INPUT.FORMAT", "BGR", "SEED", "5"],
        JITTER,
        ["INPUT.COPY_PASTE.PROBABILITY", "0.7"],
        ["DATASETS.HOLD_OUT", "3", "DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"],
        [
            *("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"),
            *("DATALOADER.REPEAT_THRESHOLD", "0.9"),
        ],
        [*JITTER, *COLOR, "INPUT.COPY_PASTE.PROBABILITY", "1.0", "INPUT.FORMAT", "BGR"],
    ],
    ids=["plain", "range", "jitter", "copy-paste", "held out", "repeats", "all"],
)
def test_both_engines_train_on_the_same_pictures(data_root, repository, options):
    """Order of the pictures, sizes, flips, pixels, boxes and masks, bit by bit."""
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    import atto_det.detectron2
    import atto_det.torchvision
    from atto_det.detectron2 import loader

    file = repository / "tests/tiny_mini_voc.yaml"
    theirs = loader.TrainLoader(atto_det.detectron2.load_config(file, options))
    ours = TrainLoader(atto_det.torchvision.load_config(file, options))
    for other, batch in itertools.islice(zip(theirs, ours, strict=False), 6):
        for item, (pixels, target) in zip(other, batch, strict=True):
            objects = item["instances"]
            assert torch.equal(item["image"], pixels)
            assert torch.equal(objects.gt_boxes.tensor, target["boxes"])
            assert torch.equal(objects.gt_classes + 1, target["labels"])
            assert torch.equal(objects.gt_masks.tensor, target["masks"].bool())


def test_rare_classes_come_more_often(config):
    sampler = ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"]
    plain, none = TrainLoader(config()), TrainLoader(config(*sampler))
    assert plain.order.repeats is None
    assert (none.order.repeats == 1).all()  # the threshold is 0
    repeated = TrainLoader(config(*sampler, "DATALOADER.REPEAT_THRESHOLD", 0.9))
    assert repeated.order.repeats.max() > 1.5
    assert repeated.order.per_epoch > plain.order.per_epoch


@pytest.mark.parametrize("engine", ["detectron2", "torchvision"])
@pytest.mark.parametrize("form", ["RGB", "BGR"])
def test_what_is_drawn_is_what_the_network_sees(data_root, repository, engine, form):
    if engine == "detectron2":
        pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    package = importlib.import_module(f"atto_det.{engine}")
    cfg = package.load_config(
        repository / "tests/tiny_mini_voc.yaml", ["INPUT.FORMAT", form, *JITTER]
    )
    samples = itertools.chain.from_iterable(TrainLoader(config_of(cfg, repository)))
    for (name, scene), (pixels, target) in itertools.islice(
        zip(package.training_scenes(cfg), samples, strict=False), 6
    ):
        assert np.array_equal(scene.image, pixels.permute(1, 2, 0).numpy())
        assert np.array_equal(scene.boxes, target["boxes"].numpy())
        assert np.array_equal(scene.masks, target["masks"].numpy())
        assert np.array_equal(scene.classes, target["labels"].numpy() - 1)
        assert (data_root / f"mini_voc/JPEGImages/{name}.jpg").exists()


def config_of(cfg, repository):
    """The same config for this engine."""
    from atto_det.torchvision import load_config

    options = ["INPUT.FORMAT", cfg.INPUT.FORMAT, *JITTER]
    return load_config(repository / "tests/tiny_mini_voc.yaml", options)


def test_both_engines_test_on_the_same_pixels(photos, repository):
    """Real photos of many sizes, resized for the network."""
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    import atto_det.detectron2
    import atto_det.torchvision
    from atto_det.torchvision.predictor import prepare

    file, options = repository / "tests/tiny_mini_voc.yaml", ["DATASETS.TRAIN", "()"]
    options += ["INPUT.MIN_SIZE_TEST", "224", "INPUT.MAX_SIZE_TEST", "290"]
    theirs = atto_det.detectron2.AttoDatasetMapper(
        atto_det.detectron2.load_config(file, options), False
    )
    cfg = atto_det.torchvision.load_config(file, options)
    shapes = set()
    for path in sorted((photos / "VOC2012/JPEGImages").glob("*.jpg"))[::8]:
        image = data.read_image(path)
        ours = prepare(cfg, data.in_order(image, "RGB", cfg.INPUT.FORMAT))
        assert torch.equal(theirs({"file_name": str(path)})["image"], ours.byte())
        shapes.add(tuple(ours.shape))
    assert len(shapes) > 3


def test_the_seed_of_a_place_is_that_of_detectron2_s_mapper():
    pytest.importorskip("detectron2", reason="Detectron2 is not installed")
    from atto_det.detectron2.mapper import seed_augmentation

    for place in ((1, 0, 0), (1, 5, 3)):
        seed_augmentation(*place)
        own = np.random.RandomState(draw_seeds(*place)[0])
        assert np.random.uniform() == own.uniform()  # noqa: NPY002
