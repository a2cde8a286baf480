"""What pyproject.toml cannot express: installs configs/ and tools/infer_onnx.py with atto_det."""

from setuptools import find_namespace_packages, find_packages, setup

CONFIGS = [
    "atto_det.configs",
    *(f"atto_det.configs.{x}" for x in find_namespace_packages("configs")),
]

setup(
    packages=[*find_packages(include=["atto_det", "atto_det.*"]), "atto_det.zoo", *CONFIGS],
    py_modules=["atto_det.tools.infer_onnx"],
    package_dir={"atto_det.configs": "configs", "atto_det.tools": "tools"},
    package_data={
        "atto_det": ["py.typed"],
        "atto_det.zoo": ["*"],
        **{name: ["*.yaml", "*.txt"] for name in CONFIGS},
    },
)
