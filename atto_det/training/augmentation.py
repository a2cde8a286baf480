"""Augmentation: from a record to what a network trains on, the same for both engines.

All random choices for a picture follow from one seed, which its place in the training determines.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from torchvision.transforms import functional
from yacs.config import CfgNode

from atto_det import data
from atto_det.config import check_values
from atto_det.errors import UserError
from atto_det.ops.resize import resized_shape

from .copy_paste import paste
from .scene import Scene, load_scene, on_canvas


class TrainingPicture(NamedTuple):
    """A picture of a training set, and whether it may be mirrored (left and right exchanged)."""

    record: data.ImageRecord
    may_mirror: bool


class Augmentation:
    """The augmentations that the keys of INPUT ask for.

    Args:
        cfg: a config of either engine.

    Raises:
        UserError: a key has an invalid value.
    """

    def __init__(self, cfg: Any) -> None:
        keys = cfg.INPUT
        check_keys(keys)
        self.sizes, self.longest = list(keys.MIN_SIZE_TRAIN), keys.MAX_SIZE_TRAIN
        self.is_range = keys.MIN_SIZE_TRAIN_SAMPLING == "range"
        self.mirrors = keys.RANDOM_FLIP == "horizontal"
        self.jitter, self.pasting = keys.LSJ, keys.COPY_PASTE
        self.colors = {name.lower(): width for name, width in keys.COLOR_JITTER.items() if width}
        mean = np.array(cfg.MODEL.PIXEL_MEAN)[:: -1 if keys.FORMAT == "BGR" else 1]
        # Zero after normalisation, like the padding of a batch.
        self.padding = mean.round().clip(0, 255).astype(np.uint8)
        self.needs_masks = cfg.MODEL.MASK_ON

    def __call__(self, pictures: Sequence[TrainingPicture], index: int, seed: int) -> Scene:
        """Picture `index` of a training set and its objects, augmented as drawn from `seed`.

        Objects of which nothing is left are dropped.

        Raises:
            UserError: a picture is unreadable, truncated or not of the annotated size, or lacks a
                mask that the model needs.
        """
        # Sizes and flips are drawn as in Detectron2, from numpy's legacy generator. The rest has
        # a generator of its own, so that it does not change the sizes and flips.
        random = np.random.default_rng((seed, 1))
        scene = self._varied(*pictures[index], np.random.RandomState(seed), random)
        if random.uniform() < self.pasting.PROBABILITY and len(pictures) > 1:
            other = (index + int(random.integers(1, len(pictures)))) % len(pictures)
            record, may_mirror = pictures[other]
            objects = [o for o in record.instances if o.rle is not None]
            chosen = np.flatnonzero(random.uniform(size=len(objects)) < 0.5)
            if len(chosen):
                record = replace(record, instances=tuple(objects[k] for k in chosen))
                geometry = np.random.RandomState(random.integers(2**32))
                pasted = self._varied(record, may_mirror, geometry, random)
                pasted = on_canvas(pasted, scene.image.shape[:2], self.padding)
                scene = paste(scene, pasted, self.pasting.MIN_VISIBLE)
        return scene

    def _varied(
        self,
        record: data.ImageRecord,
        may_mirror: bool,
        geometry: np.random.RandomState,
        random: np.random.Generator,
    ) -> Scene:
        """A picture cropped and padded, mirrored and recoloured as the two generators say."""
        lacking = [o for o in record.instances if o.rle is None]
        if lacking and self.needs_masks:
            label = lacking[0].label or "an object"
            raise UserError(
                f"{label} in {record.file_name} has a box but no mask, which MODEL.MASK_ON needs: "
                "set it to False to train on boxes alone"
            )
        shape, part, canvas = (record.height, record.width), None, None
        if self.jitter.ENABLED:
            canvas = tuple(self.jitter.SIZE)
            scale = geometry.uniform(*self.jitter.SCALE_RANGE)
            scale *= min(canvas[0] / shape[0], canvas[1] / shape[1])
            shape = tuple(max(1, round(side * scale)) for side in shape)
            seen = tuple(map(min, shape, canvas))
            top, left = (int(geometry.uniform() * (shape[k] - seen[k] + 1)) for k in (0, 1))
            part = (top, left, *seen)
        else:
            if self.is_range:
                short = geometry.randint(self.sizes[0], self.sizes[1] + 1)
            else:
                short = geometry.choice(self.sizes)
            if short:  # 0 keeps the picture's own size
                shape = resized_shape(*shape, short, self.longest)
        mirrored = self.mirrors and may_mirror and geometry.uniform() < 0.5
        scene = load_scene(record, shape, part, mirrored=mirrored)
        scene = replace(scene, image=self._recolored(scene.image, random))
        return on_canvas(scene, canvas, self.padding) if canvas else scene

    def _recolored(self, image: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """uint8 RGB (H, W, 3) with random colour changes."""
        if not self.colors:
            return image
        picture = Image.fromarray(image)
        for name in random.permutation(list(self.colors)):
            width, middle = self.colors[name], 0.0 if name == "hue" else 1.0
            value = random.uniform(middle - width, middle + width)
            picture = getattr(functional, f"adjust_{name}")(picture, value)
        return np.asarray(picture)


def is_on(keys: Any) -> bool:
    """Whether INPUT asks for more than the sizes and flips that Detectron2 has as well."""
    return keys.LSJ.ENABLED or keys.COPY_PASTE.PROBABILITY > 0 or any(keys.COLOR_JITTER.values())


def check_keys(keys: Any) -> None:
    """Refuse invalid values of INPUT's keys.

    Raises:
        UserError: the message names the key.
    """
    root = CfgNode()
    root.INPUT = keys
    check_values(root)
    sizes = list(keys.MIN_SIZE_TRAIN)
    if not sizes or (keys.MIN_SIZE_TRAIN_SAMPLING == "range" and len(sizes) != 2):
        raise UserError(
            f"INPUT.MIN_SIZE_TRAIN is {sizes}: give sizes to choose from, or exactly two with "
            "INPUT.MIN_SIZE_TRAIN_SAMPLING range"
        )
