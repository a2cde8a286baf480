"""What pyproject.toml cannot say: configs/ becomes part of the package, as atto_det.configs."""

from setuptools import find_namespace_packages, find_packages, setup

CONFIGS = [
    "atto_det.configs",
    *(f"atto_det.configs.{x}" for x in find_namespace_packages("configs")),
]

setup(
    packages=[*find_packages(include=["atto_det", "atto_det.*"]), *CONFIGS],
    package_dir={"atto_det.configs": "configs"},
    package_data={"atto_det": ["py.typed"], **{name: ["*.yaml", "*.txt"] for name in CONFIGS}},
)
