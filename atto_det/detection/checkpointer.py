"""Detectron2's checkpointer over `atto_det.checkpoint`: whole files, safe reading, own config."""

import logging
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from torch import nn

from atto_det import checkpoint
from atto_det.errors import UserError, atomic_path

logger = logging.getLogger(__name__)


class AttoCheckpointer(DetectionCheckpointer):
    """Writes checkpoints that carry config and class names; reads only tensors and plain values.

    Args:
        model: what is saved and loaded.
        save_dir: folder of the checkpoints.
        cfg, class_names: what the checkpoints carry.
        allow_pickle: read `.pkl` files (Detectron2's model zoo), which can run code.
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
        **checkpointables: Any,
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.description = checkpoint.description(cfg.dump(), class_names)
        self.allow_pickle = allow_pickle

    def save(self, name: str, **kwargs: Any) -> None:
        """Write everything that a resumed run needs to `<name>.pth`, and tag it as the last."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: value.state_dict() for key, value in self.checkpointables.items()}
        self._write(name, states | kwargs)
        self.tag_last_checkpoint(f"{name}.pth")

    def save_weights(self, name: str, **kwargs: Any) -> None:
        """Write the model alone, with config and class names, to `<name>.pth`."""
        if self.save_to_disk:
            self._write(name, kwargs)

    def _write(self, name: str, content: dict[str, Any]) -> None:
        path = Path(self.save_dir) / f"{name}.pth"
        model = {key: value.cpu() for key, value in self.model.state_dict().items()}
        checkpoint.save_checkpoint(path, {"model": model, "atto_det": self.description} | content)
        logger.info("wrote %s", path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint to resume from."""
        with atomic_path(Path(self.save_dir) / "last_checkpoint") as temporary:
            temporary.write_text(last_filename_basename)

    def _torch_load(self, f: str) -> dict[str, Any]:
        return checkpoint.load_checkpoint(f)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load weights (and what is asked for beside them) from `path`; nothing where it is empty.

        Raises:
            UserError: a missing, damaged or unsafe file, or one of which nothing fits the model.
        """
        if not path:
            return super().load(path, *args, **kwargs)
        if str(path).endswith((".pkl", ".pyth")) and not self.allow_pickle:
            raise UserError(
                f"{path} is a pickle, and reading it can run code: "
                "pass --allow-pickle if you trust it"
            )
        if "://" not in str(path) and not Path(path).is_file():
            raise UserError(f"checkpoint {path} does not exist")
        return super().load(path, *args, **kwargs)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        incompatible = super()._load_model(checkpoint)
        lacking = set(incompatible.missing_keys) | {k for k, *_ in incompatible.incorrect_shapes}
        wanted = self.model.state_dict()
        if wanted and lacking.issuperset(wanted):
            raise UserError(
                "no tensor of the checkpoint fits this model: it belongs to another network, or "
                "its names have another prefix"
            )
        return incompatible


def load_weights(model: nn.Module, content: dict[str, Any], path: str | Path) -> None:
    """Load the model part of a checkpoint of ours, all of it.

    Raises:
        UserError: a tensor is missing, left over, or of another shape; it names the first.
    """
    own, given = model.state_dict(), content["model"]
    wrong = [
        key
        for key in sorted(own.keys() | given.keys())
        if key not in own
        or key not in given
        or not isinstance(given[key], torch.Tensor)
        or own[key].shape != given[key].shape
    ]
    if wrong:
        raise UserError(
            f"{len(wrong)} tensors of checkpoint {path} do not fit its config, the first being "
            f"{wrong[0]}: the file was changed, or belongs to another version"
        )
    model.load_state_dict(given)
