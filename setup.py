"""Installation. Detectron2 is no dependency here: it has no package; see requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "atto_det/__init__.py").read_text())[1]

setup(
    name="atto_det",
    version=VERSION,
    description="AttoNet backbones and Atto-MaskRCNN for Detectron2",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11.4",
    packages=find_packages(include=["atto_det", "atto_det.*"]),
    # The ranges that the tests run in are narrower: requirements/tested.txt.
    install_requires=[
        "torch>=2.6",
        "torchvision>=0.21",
        "numpy>=1.26",
        "pillow>=10",
        "pycocotools>=2.0.8",
        "opencv-python>=4.8",
        "fvcore>=0.1.5.post20221221",
        "iopath>=0.1.9,<0.1.10",  # Detectron2's own bound
        "yacs>=0.1.8",
        "pyyaml>=6",
        "defusedxml>=0.7",
        "scipy>=1.11",
        "safetensors>=0.4",
        "rich>=13",
        "matplotlib>=3.8",
        "timm>=1.0",
        "lightning>=2.6",
    ],
    extras_require={
        "onnx": [
            "onnx>=1.23",
            "onnxruntime>=1.31",
            "onnxscript>=0.7",
            "openvino>=2026.4",
        ],
        "pretraining": [
            "jsonargparse[signatures]>=4.40",
            "tensorboard>=2.15",
        ],
        "dev": [
            "hypothesis>=6.100",
            "import-linter>=2.0",
            "markdown-it-py>=3.0",
            "mkdocs-material>=9.5",
            "mkdocstrings[python]>=0.28",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.5",
            "ruff>=0.8",
        ],
    },
)
