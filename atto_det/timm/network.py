"""A network of the registry with timm's methods, and how timm creates it by name."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import DropPath, create_classifier
from timm.models import (
    build_model_with_cfg,
    is_model,
    register_model,
    resolve_pretrained_cfg,
)
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from atto_det.errors import UserError
from atto_det.nets import STAGES, Backbone, BackboneSpec, get_spec
from atto_det.nets.recomputation import recomputed
from atto_det.weights.backbone_file import as_floats


class TimmNetwork(nn.Module):
    """A network as a classifier of timm's kind. Its weights have the names of `ImageClassifier`'s.

    Args:
        spec: the network as data.
        num_classes: outputs of the dense layer; 0 for none.
        in_chans: channels of the pictures.
        global_pool: one of timm's poolings: "avg", "max", "avgmax", "catavgmax", "" for none.
        drop_rate: share of the pooled features dropped in training.
        drop_path_rate: share of the pictures that skip a residual branch in training; it rises
            linearly from 0 at the first module to this at the last (arXiv 1603.09382).
        device, dtype: of the parameters.

    Attributes:
        feature_info: the levels of `features_only=True`: the stem's convolution (stride 2), then
            res2 to res5.
        num_features: channels of res5.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        with torch.device(device) if device else torch.get_default_device():
            backbone = Backbone(spec, STAGES, in_chans=in_chans).to(dtype)
        for part, module in backbone.named_children():  # timm finds features among its children
            self.add_module(part, module)
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False
        self.num_features = backbone.channels["res5"]
        self.feature_info = [{"num_chs": spec.stem, "reduction": 2, "module": "stem.conv"}]
        self.feature_info += [
            {"num_chs": channels, "reduction": backbone.strides[stage], "module": stage}
            for stage, channels in backbone.channels.items()
        ]
        modules = [module for stage in STAGES for module in getattr(self, stage)]
        rates = torch.linspace(0, drop_path_rate, len(modules), device="cpu")
        for module, rate in zip(modules, rates.tolist(), strict=True):
            if rate and hasattr(module, "drop_path"):
                module.drop_path = DropPath(rate)
        self.reset_classifier(num_classes, global_pool)

    def get_classifier(self, name_only: bool = False) -> str | nn.Module:
        """The dense layer, or an identity if there are no classes; or its name."""
        return "fc" if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new dense layer for `num_classes`, 0 for none, and a new pooling if one is given."""
        if global_pool is None:
            global_pool = self.global_pool.pool_type
        self.num_classes = num_classes
        weight = self.stem.conv.conv.weight
        with weight.device:
            self.global_pool, self.fc = create_classifier(
                self.num_features, num_classes, global_pool
            )
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        if num_classes:
            nn.init.normal_(self.fc.weight, std=0.01)
            nn.init.zeros_(self.fc.bias)
        self.fc.to(weight.dtype)
        self.global_pool.train(self.training)
        self.fc.train(self.training)

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Regular expressions of layer groups, for learning rates by depth: modules or stages."""
        blocks = r"^res(\d+)" if coarse else r"^res(\d+)\.(\d+)"
        return {"stem": r"^stem", "blocks": blocks}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Whether training recomputes a stage's activations instead of keeping them.

        Unlike in timm's own networks, a batch updates the running statistics once, not twice.
        """
        self.grad_checkpointing = enable

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The features at levels of `feature_info`, and res5.

        Args:
            x: images (B, in_chans, H, W).
            indices: of the levels; the last n for an int, all for None.
            norm: has no effect: every level ends in a ReLU.
            stop_early: whether to stop at the last requested level, which then replaces res5.
            output_fmt: only "NCHW".
            intermediates_only: whether to return only the list.
        """
        if output_fmt != "NCHW":
            raise UserError(f"output_fmt is {output_fmt!r}: the features are NCHW")
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        x = self.stem.conv(x)
        intermediates = [x] if 0 in wanted else []
        x = self.stem.pool(x)
        stages = (self.res2, self.res3, self.res4, self.res5)
        for index, stage in enumerate(stages[:last] if stop_early else stages, 1):
            x = recomputed(stage, x) if self.grad_checkpointing else stage(x)
            if index in wanted:
                intermediates.append(x)
        return intermediates if intermediates_only else (x, intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last of the levels `indices`, and the head.

        Args:
            indices: as in `forward_intermediates`.
            prune_norm: has no effect, since there is no norm after the stages.
            prune_head: whether to remove the head even if all stages stay.

        Returns:
            The levels, counted from 0.
        """
        wanted, last = feature_take_indices(len(self.feature_info), indices)
        for stage in STAGES[last:]:
            setattr(self, stage, nn.Sequential())
        if last == 0:
            self.stem.pool = nn.Identity()
        if last < len(STAGES):
            self.num_features = self.feature_info[last]["num_chs"]
        if prune_head or last < len(STAGES):
            self.reset_classifier(0, "")
        return wanted

    def forward_features(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to res5 (B, num_features, H / 32, W / 32)."""
        x = self.stem(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            for stage in (self.res2, self.res3, self.res4, self.res5):
                x = recomputed(stage, x)
            return x
        x = self.res2(x)  # one by one, as torch.jit.script needs it
        x = self.res3(x)
        x = self.res4(x)
        return self.res5(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """res5 to logits (B, num_classes), or to the pooled features (B, num_features)."""
        x = self.global_pool(x)
        x = F.dropout(x, self.drop_rate, self.training)
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, in_chans, H, W) to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))


def default_cfg(**values: Any) -> dict[str, Any]:
    """What timm must know of a network: that there are no weights, and the names of its layers."""
    return {
        "input_size": (3, 224, 224),
        "pool_size": (7, 7),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "stem.conv.conv",
        "classifier": "fc",
        "license": "apache-2.0",
        **values,
    }


def create(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """What timm's `create_model` builds for the network `name`; arguments as for `TimmNetwork`.

    Raises:
        UserError: pretrained weights are requested without a source, since none are published.
    """
    sources = [kwargs.get(key) for key in ("pretrained_cfg", "pretrained_cfg_overlay")]
    cfg = resolve_pretrained_cfg(name, *sources)
    if pretrained and not (cfg.has_weights or cfg.state_dict):
        raise UserError(
            f"there are no pretrained weights of {name}: create it with pretrained=False, or give "
            "your own by pretrained_cfg_overlay={'file': …}, local-dir: or checkpoint_path"
        )
    # Hooks rather than timm's usual list of children: hooks keep the names of the weights, and
    # reach the stem's convolution inside the stem.
    features = {"feature_cls": "hook", "no_rewrite": False}
    return build_model_with_cfg(
        TimmNetwork,
        name,
        pretrained,
        pretrained_filter_fn=lambda state, model: as_floats(state),
        feature_cfg=features,
        spec=get_spec(name),
        **kwargs,
    )


def register(entry_point: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """timm's `register_model`, once, since registering again on importlib.reload would warn."""
    return entry_point if is_model(entry_point.__name__) else register_model(entry_point)
