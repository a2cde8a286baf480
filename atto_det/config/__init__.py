"""Experiment files: read within bounds, checked key by key and adapted to the machine."""

from atto_det.bounded_yaml import parse_yaml
from atto_det.config.experiment import (
    CONFIGS,
    ConfigReader,
    check_class_names,
    check_device,
    check_values,
    class_head,
    find_config,
    load_yaml,
    merge,
    merge_options,
    refuse_other_weights,
    set_class_count,
    set_prediction,
    use_available_device,
)

__all__ = [
    "CONFIGS",
    "ConfigReader",
    "check_class_names",
    "check_device",
    "check_values",
    "class_head",
    "find_config",
    "load_yaml",
    "merge",
    "merge_options",
    "parse_yaml",
    "refuse_other_weights",
    "set_class_count",
    "set_prediction",
    "use_available_device",
]
