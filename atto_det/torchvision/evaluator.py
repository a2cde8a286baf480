"""AP_d and AP_m of a model on a data set, distributed over all processes."""

import logging
import sys
from pathlib import Path

from rich.progress import track
from torch import distributed, nn
from torch.utils.data import Dataset
from yacs.config import CfgNode

from atto_det import data
from atto_det.data import catalog
from atto_det.training.batches import ErrorsAsItems, load_batches, ranks
from atto_det.training.finite import finite_outputs
from atto_det.training.scene import read_picture
from atto_det.training.scoring import score

from .predictor import detect

logger = logging.getLogger(__name__)


class _Pixels(Dataset):
    """The pixels of records, by index."""

    def __init__(self, records: tuple[data.ImageRecord, ...]) -> None:
        self.records, self.read = records, ErrorsAsItems(read_picture)

    def __getitem__(self, index: int) -> object:
        return self.read(self.records[index])


def evaluate_model(cfg: CfgNode, model: nn.Module, name: str) -> dict | None:
    """Evaluate `model` on data set `name`; the result in the main process, None in the others.

    Its mode, training or evaluation, is restored.

    Raises:
        UserError: no such data set, an unreadable picture, or outputs that are not finite.
    """
    dataset = catalog.load_dataset(name)
    rank, processes = ranks()
    mine = list(range(rank, len(dataset.records), processes))
    batches = load_batches(
        _Pixels(dataset.records), [[index] for index in mine], cfg.DATALOADER.NUM_WORKERS
    )
    logger.info("evaluating on the %d pictures of %s", len(dataset.records), name)
    was_training = model.training
    model.eval()
    found = {}
    try:
        hidden = was_training or not sys.stdout.isatty()  # a training has its own progress bar
        pictures = track(batches, f"evaluating {name}", len(mine), transient=True, disable=hidden)
        with finite_outputs(model):
            for index, [image] in zip(mine, pictures, strict=True):
                image = data.in_order(image, "RGB", cfg.INPUT.FORMAT)
                found[dataset.records[index].image_id] = detect(model, cfg, image)
    finally:
        model.train(was_training)
    if processes > 1:
        parts: list = [None] * processes
        distributed.all_gather_object(parts, found)
        found = {image_id: own for part in parts for image_id, own in part.items()}
    if rank > 0:
        return None
    return score(
        dataset,
        found,
        name=name,
        score_floor=cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST,
        detections_per_image=cfg.TEST.DETECTIONS_PER_IMAGE,
        output=Path(cfg.OUTPUT_DIR),
    )
