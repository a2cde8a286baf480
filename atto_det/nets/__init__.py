"""The networks, in torch alone: AttoNets as feature extractors and as classifiers."""

from atto_det.nets.attonet import ATTONETS, FEATURES, STAGES, AttoNet, AttoNetSpec, create_backbone
from atto_det.nets.blocks import (
    NORMS,
    AttoModule,
    AttoModuleSpec,
    make_norm,
    reset_lengths,
    separable_conv,
    shorten_filters,
)
from atto_det.nets.classifier import AttoNetClassifier, create_classifier

__all__ = [
    "ATTONETS",
    "FEATURES",
    "NORMS",
    "STAGES",
    "AttoModule",
    "AttoModuleSpec",
    "AttoNet",
    "AttoNetClassifier",
    "AttoNetSpec",
    "create_backbone",
    "create_classifier",
    "make_norm",
    "reset_lengths",
    "separable_conv",
    "shorten_filters",
]
