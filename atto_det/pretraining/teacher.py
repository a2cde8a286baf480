"""The teacher of a distillation: a timm network with weights from a local file."""

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from timm.data import ImageNetInfo, infer_imagenet_subset
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.weights.tensor_file import tensor_sum
from atto_det.weights.timm_backbone import fitted, read_state


class Teacher:
    """A trained network that says how probable each of its own classes is.

    Args:
        name: of a timm network.
        weights: `.safetensors`, or a file of `torch.save`, which is read with `weights_only`. Its
            tensors have timm's names, or else the same order and shapes, which is logged.
        size: side of its pictures in pixels; default: that of its training.

    Attributes:
        size: as above.
        mean, std: of red, green, blue in pictures scaled to 0…1, as in its training.
        classes: of its outputs; WordNet ids if they are ImageNet's, else "output 0" ….
        sha256: of its tensors.

    Raises:
        UserError: an unknown network, a missing, damaged or unsafe file, or tensors that are not
            the network's.
    """

    def __init__(self, name: str, weights: str | Path, size: int | None = None) -> None:
        config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
        if config is None:
            raise UserError(
                f"model.teacher {name!r} is not a network of timm's: timm.list_models() names them"
            )
        self.name = name
        self.size = size or config.input_size[-1]
        self.mean, self.std = tuple(config.mean), tuple(config.std)
        state = read_state(weights)
        head = state.get(f"{config.classifier}.weight")
        outputs = config.num_classes if head is None else len(head)
        self.net: nn.Module = timm.create_model(name, num_classes=outputs)
        self.net.load_state_dict(fitted(self.net.state_dict(), state, name, weights))
        self.net.requires_grad_(False).eval()
        self.classes = _class_names(config, outputs)
        self.sha256 = tensor_sum(self.net.state_dict())
        self._fast: Callable[[Tensor], Tensor] | None = None

    @torch.no_grad()
    def answer(self, pictures: Tensor) -> Tensor:
        """Log-probabilities (B, classes) for normalised pictures (B, 3, size, size).

        On a CPU, OpenVINO computes them if it is installed, about twice as fast as PyTorch.
        """
        if pictures.device.type != "cpu":
            logits = self.net.to(pictures.device)(pictures).float()
        elif find_spec("openvino"):
            self._fast = self._fast or _by_openvino(self.net, self.size)
            logits = self._fast(pictures)
        else:
            logits = self.net(pictures)
        return logits.log_softmax(1)

    def describe(self) -> dict[str, object]:
        """What its answers depend on."""
        return {
            "teacher": self.name,
            "weights_sha256": self.sha256,
            "size": self.size,
            "mean": list(self.mean),
            "std": list(self.std),
        }


def _class_names(config: object, outputs: int) -> tuple[str, ...]:
    subset = infer_imagenet_subset(config)
    if subset:
        names = ImageNetInfo(subset).label_names()
        if len(names) == outputs:
            return tuple(names)
    return tuple(f"output {number}" for number in range(outputs))


def _by_openvino(net: nn.Module, size: int) -> Callable[[Tensor], Tensor]:
    import openvino

    with warnings.catch_warnings(action="ignore"):  # from torch.jit, which OpenVINO uses
        model = openvino.convert_model(net, example_input=torch.zeros(1, 3, size, size))
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # the default is bf16 on CPUs that support it
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.compile_model(model, "CPU", settings)
    return lambda pictures: torch.from_numpy(compiled(pictures.contiguous().numpy())[0])
