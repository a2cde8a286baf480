"""Detectron2's checkpointer on `weights.checkpoint`: complete files, safe loading, own config."""

import logging
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.training import run_folder
from atto_det.weights import checkpoint, timm_backbone
from atto_det.weights.fine_tuning import fitting, refuse_strangers, start_table
from atto_det.weights.transfer import load_backbone, read_weights
from atto_det.weights.zoo import find_file

logger = logging.getLogger(__name__)
ENGINE = "detectron2"


class AttoCheckpointer(DetectionCheckpointer):
    """Writes checkpoints that carry config and class names; reads only tensors and plain values.

    Args:
        model: the model that is saved and loaded.
        save_dir: folder of the checkpoints.
        cfg, class_names: stored in the checkpoints; `model` is built from `cfg`.
        allow_pickle: read `.pkl` files (Detectron2's model zoo), which can run code.
        pictures: fingerprint of the training pictures, which must be the same in a resumed run.
        checkpointables: optimizer, scheduler, trainer.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        cfg: CfgNode,
        class_names: list[str],
        allow_pickle: bool = False,
        pictures: int | None = None,
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.cfg = cfg
        self.class_names = list(class_names)
        self.lacking: set[str] = set()  # the model's tensors that the last `load` did not set
        self.allow_pickle, self.pictures = allow_pickle, pictures

    def save(self, name: str, **kwargs: Any) -> None:
        """Write everything that a resumed run needs to `<name>.pth`, and mark it as the last."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: value.state_dict() for key, value in self.checkpointables.items()}
        run_folder.write_checkpoint(
            Path(self.save_dir) / f"{name}.pth",
            self.weights(),
            self.cfg.dump(),
            self.class_names,
            engine=ENGINE,
            **states,
            **kwargs,
        )

    def weights(self) -> dict[str, Tensor]:
        """The model's tensors on the CPU."""
        return {key: value.cpu() for key, value in self.model.state_dict().items()}

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Record the name of the checkpoint to resume from."""
        run_folder.tag_last(Path(self.save_dir), last_filename_basename)

    def _load_file(self, filename: str) -> dict[str, Any]:
        # Checked here, where the real file name is known: a URL can hide it (x.pkl?a=b).
        if filename.endswith((".pkl", ".pyth")) and not self.allow_pickle:
            raise UserError(
                f"{filename} is a pickle, and reading it can run code: "
                "pass --allow-pickle if you trust it"
            )
        if filename.endswith(".safetensors"):
            return self._torch_load(filename)
        return super()._load_file(filename)

    def _torch_load(self, f: str) -> dict[str, Any]:
        return read_weights(f) | {"path": f}

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Restore the last checkpoint if `resume` and there is one; else load `path`.

        Raises:
            UserError: the last checkpoint is damaged, or was written with another config; for
                `path`, see `load`.
        """
        if not (resume and self.has_checkpoint()):
            timm_backbone.initialise(self.model, self.cfg)
            return self.load(path, checkpointables=[])
        last, content = run_folder.read_last(
            Path(self.save_dir), ENGINE, self.class_names, self.cfg, self.pictures
        )
        checkpoint.load_weights(self.model, content, last)
        with run_folder.resuming(last):
            for key, value in self.checkpointables.items():
                value.load_state_dict(content[key])
        logger.info("resumed from %s", last)
        return content

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load weights (and requested other parts) from `path`; does nothing if it is empty.

        Raises:
            UserError: a missing, damaged or unsafe file, or one from which nothing fits the model.
        """
        if path and "://" not in str(path):
            path = str(find_file(path))
            if not Path(path).is_file():
                raise UserError(f"checkpoint {path} does not exist")
        try:
            return super().load(path, *args, **kwargs)
        except (AssertionError, OSError) as error:
            raise UserError(f"checkpoint {path} cannot be read ({error})") from error

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        backbone = checkpoint.get("backbone")
        if backbone is not None:
            self.lacking = load_backbone(self.model, self.cfg, backbone, checkpoint["path"])
            return None  # `load_backbone` has already logged the result
        if "atto_det" not in checkpoint:
            return self._load_what_fits(checkpoint)
        own, path = self.model.state_dict(), checkpoint["path"]
        given = fitting(own, checkpoint, path)
        self._load_what_fits(dict(checkpoint, model=dict(given)))
        logger.info("%s", start_table(own, given, checkpoint, self.class_names, path))
        return None  # replaces fvcore's log, since our table already has its content

    def _load_what_fits(self, checkpoint: dict[str, Any]) -> Any:
        incompatible = super()._load_model(checkpoint)
        wrong = {key for key, *_ in incompatible.incorrect_shapes}
        self.lacking = set(incompatible.missing_keys) | wrong
        refuse_strangers(self.model.state_dict(), self.lacking, "the checkpoint")
        return incompatible
