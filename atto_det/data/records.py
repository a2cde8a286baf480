"""The plain records that every reader returns: files, sizes and objects, without a framework.

Boxes are XYXY in continuous pixel coordinates with the origin at the top left corner of the
picture: VOC's 1-based inclusive (xmin, ymin, xmax, ymax) becomes (xmin - 1, ymin - 1, xmax, ymax).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Literal

from atto_det.errors import UserError, shown

# Wraps a list of pictures or ids to show the progress, as `rich.progress.track` does.
Progress = Callable[[Sequence], Iterable]


@dataclass(frozen=True, slots=True)
class Instance:
    """One object.

    Attributes:
        category: 0-based index into `Dataset.class_names`.
        box: XYXY in pixels, as annotated (it may be wider than the mask).
        rle: mask at the size of the image, {"size": [height, width], "counts": bytes}, as
            `pycocotools.mask.encode` returns it; None if only the box is annotated.
        difficult: VOC's mark for objects that are hard to recognise.
        label: what its annotation is called in messages ("object 2", "annotation 17").
    """

    category: int
    box: tuple[float, float, float, float]
    rle: dict | None
    difficult: bool = False
    label: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One picture (`file_name` is absolute; height and width in pixels) and its objects.

    Height, width, boxes and masks are those of the upright picture, as `read_image` returns it.
    `sem_seg_file_name` is a PNG whose palette index is the class + 1 (0 background, 255 void).
    `crowds` are regions in which objects of one class were not separated (COCO's iscrowd): they are
    not trained on, and the evaluation treats them as void. Their masks are never None.
    `coco_id` is the id in the COCO JSON that the picture came from.
    """

    image_id: str
    file_name: str
    height: int
    width: int
    instances: tuple[Instance, ...]
    sem_seg_file_name: str | None = None
    crowds: tuple[Instance, ...] = ()
    coco_id: int | str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in a data set; `message` is one sentence that names the file and the object.

    An error makes the data set unusable, a warning costs one annotated object, a note costs
    nothing.
    """

    severity: Literal["error", "warning", "note"]
    kind: str
    image_id: str
    message: str


def unusable(findings: Iterable[Finding], folder: str) -> UserError:
    """The error for data with errors: the first of them, and how to list all.

    Args:
        folder: value of --folder, with further flags.
    """
    errors = [item.message for item in findings if item.severity == "error"]
    more = f", and {len(errors) - 1} more errors" if len(errors) > 1 else ""
    return UserError(
        f"{errors[0]}{more} (`atto-det prepare-voc --check --folder {folder}` lists everything "
        "that is wrong there)"
    )


@dataclass(frozen=True, slots=True)
class Dataset:
    """The pictures of one split, in the order of its list.

    `findings` are warnings and notes. `category_ids` are those of the COCO JSON it came from.
    """

    class_names: tuple[str, ...]
    records: tuple[ImageRecord, ...]
    findings: tuple[Finding, ...] = ()
    category_ids: tuple[int | str, ...] | None = field(default=None, compare=False)

    @property
    def left_out(self) -> int:
        """Number of annotated objects, with crowd regions, that are not among the instances."""
        return sum(finding.severity == "warning" for finding in self.findings)

    @property
    def crowds(self) -> int:
        """Number of crowd regions."""
        return sum(len(record.crowds) for record in self.records)


def with_classes(dataset: Dataset, mapping: Mapping[str, str | None], name: str) -> Dataset:
    """The data set with classes renamed, merged or left out.

    Args:
        mapping: from a class to its new name, or to None to leave its objects out; classes that are
            not mentioned stay.
        name: of the data set, for errors.

    Raises:
        UserError: `mapping` names a class that does not exist, or leaves no class.
    """
    for old in mapping:
        if old not in dataset.class_names:
            known = ", ".join(dataset.class_names[:10])
            raise UserError(f"{name} has no class {shown(old)} to be mapped: it has {known}")
    names = [mapping.get(old, old) for old in dataset.class_names]
    kept = list(dict.fromkeys(new for new in names if new is not None))
    if not kept:
        raise UserError(f"{name}: every class is left out; keep one")

    def moved(items: tuple[Instance, ...]) -> tuple[Instance, ...]:
        pairs = ((item, names[item.category]) for item in items)
        return tuple(
            replace(item, category=kept.index(new)) for item, new in pairs if new is not None
        )

    records = tuple(
        replace(record, instances=moved(record.instances), crowds=moved(record.crowds))
        for record in dataset.records
    )
    return Dataset(tuple(kept), records, dataset.findings)


def image_ids(names: Sequence[str]) -> list[str]:
    """Ids of pictures from their file names: without the suffix, unless only the suffix differs."""
    stems = [name.removesuffix(PurePosixPath(name).suffix) for name in names]
    counts = Counter(stems)
    return [name if counts[stem] > 1 else stem for name, stem in zip(names, stems, strict=True)]


def with_masks(dataset: Dataset, name: str) -> Dataset:
    """The data set for a detector with masks: objects without a mask are left out and listed.

    Raises:
        UserError: no object has a mask.
    """
    lacking = [
        (record, item) for record in dataset.records for item in record.instances if not item.rle
    ]
    if not lacking:
        return dataset
    total = sum(len(record.instances) for record in dataset.records)
    if len(lacking) == total:
        raise UserError(
            f"none of the {total} objects of {name} has a mask: export the masks too (in CVAT as "
            "COCO or segmentation masks, from labelme by labelme2voc; labelImg draws only boxes), "
            "or train a detector without masks: MODEL.MASK_ON False"
        )
    findings = tuple(
        Finding(
            "warning",
            "no_mask",
            record.image_id,
            f"{record.file_name}: {item.label or dataset.class_names[item.category]} has a box, "
            "but no mask; it is left out",
        )
        for record, item in lacking
    )
    records = tuple(
        replace(record, instances=tuple(item for item in record.instances if item.rle))
        for record in dataset.records
    )
    return replace(dataset, records=records, findings=dataset.findings + findings)
