"""Lay what the job finds on its nodes below one folder: `node`, or where --root says.

Writes data/1/COCO and data/2/COCO, a set of 128 painted pictures in COCO128's format for each edge, and
pretrained/yolov5.pth: YOLOv5n, pretrained on public pictures of other shapes, by `pretrain.py`. That takes
four minutes of two cores, the pictures seconds. What is there already stays.

On a cluster every node makes its own part (`prepare.yaml`): --part 1, --part 2, --part pretrained.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fedloom.data.generator import Order, make_sets

FOLDER = Path(__file__).parent
PARTS = ("1", "2", "pretrained")


def main() -> None:
    """Make the parts that are asked for."""
    options = _options()
    data = [part for part in options.part if part != "pretrained"]
    if data:
        make_data(options.root, data, options.images)
    if len(data) < len(options.part):
        make_pretrained(options.root, options.epochs)


def make_data(root: Path, edges: list[str], images: int) -> None:
    """Make the sets of these edges; every edge has pictures of its own."""
    order = Order(images=images, held_out=0, edges=max(map(int, edges)), seed=7)
    with tempfile.TemporaryDirectory() as made:  # those of the edges before it are made too
        for home in make_sets(Path(made), order):
            target = root / "data" / home.parent.name / "COCO"
            if home.parent.name in edges and not target.exists():
                shutil.copytree(home, target)
    for edge in edges:
        print(root / "data" / edge / "COCO")


def make_pretrained(root: Path, epochs: int) -> None:
    """Pretrain the network. The file holds safetensors: what a file is, is seen in it, not in its name."""
    target = root / "pretrained" / "yolov5.pth"
    if not target.exists():
        output = FOLDER / "output"
        command = [sys.executable, str(FOLDER / "pretrain.py"), "--epochs", str(epochs)]
        subprocess.run([*command, "--output", str(output)], check=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(output / "pretrained.safetensors", target)
    print(target)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Lay data and the pretrained model below a folder."
    )
    parser.add_argument("--root", type=Path, default=FOLDER / "node")
    parser.add_argument("--part", choices=PARTS, action="append", help="[all of them]")
    parser.add_argument("--images", type=int, default=128, help="of each edge")
    parser.add_argument("--epochs", type=int, default=12, help="of the pretraining")
    options = parser.parse_args()
    options.part = options.part or list(PARTS)
    return options


if __name__ == "__main__":
    main()
