"""The zoo: backbone files that come with the package.

atto_det/zoo/<network>-<name>.safetensors    a backbone file with weights of 16 bits
atto_det/zoo/<network>-<name>.json           its card: data, terms, recipe, figures, limits
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from atto_det.errors import UserError, atomic_path

ZOO = Path(__file__).resolve().parents[1] / "zoo"
FILES = (".safetensors", ".pth", ".ckpt")


def find_weights(weights: str | Path, network: str) -> Path:
    """The file of `weights`: a path, or the name of weights of `network` in the zoo.

    A name has no suffix and no slash: "distilled".

    Raises:
        UserError: the zoo has no such weights; the message names those that it has.
    """
    path = Path(weights)
    if path.suffix in FILES or len(path.parts) != 1 or path.exists():
        return path
    found = ZOO / f"{network}-{weights}.safetensors"
    if not found.is_file():
        names = [
            file.stem.removeprefix(f"{network}-") for file in ZOO.glob(f"{network}-*.safetensors")
        ]
        known = f"there are {', '.join(sorted(names))}" if names else "there are none"
        raise UserError(
            f"{str(weights)!r} names no file, and no weights of {network} that come with the "
            f"package ({known}): a file ends in .safetensors or .pth"
        )
    return found


def read_card(path: Path) -> dict[str, Any]:
    """The card of a file of the zoo, checked against it.

    Raises:
        UserError: there is no readable card, or the file is not the one that it describes.
    """
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
        expected = card["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{card_path} is no card of a file of the zoo ({error})") from error
    if expected != file_sha256(path):
        raise UserError(f"{path} is not the file of its card (its sha256 differs): install again")
    return card


def write_card(path: Path, values: dict[str, Any]) -> None:
    """Write `values` as the card of `path`, with its name, size and sha256.

    Raises:
        UserError: the card cannot be written.
    """
    card = {"file": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)} | values
    with atomic_path(path.with_suffix(".json")) as temporary:
        temporary.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")


def file_sha256(path: Path) -> str:
    """Over the bytes of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
