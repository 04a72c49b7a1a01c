"""What every configuration of `mistnet.py` begins with: pictures, the pretrained network, how much of each."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples/06-mistnet-yolov5"
sys.path.insert(0, str(EXAMPLE))

from detector.network import Shape  # noqa: E402  (found only now)
from detector.recipe import SMALL_ANCHOR_SCALE  # noqa: E402

from fedloom.data.generator import Order, make_sets  # noqa: E402

SIZE, CLASSES, CUT, EDGES = 96, 3, 4, 2
SHAPE = Shape("n", CLASSES, anchor_scale=SMALL_ANCHOR_SCALE)
EVERYBODYS_SEED = 1  # of the public pictures, and of the pretraining


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        images: private ones, to train on, of each edge.
        tests: private ones on which precision is told; nothing is decided by them.
        trials: private ones by which the number of epochs is chosen.
        public: pretrained on; attackers have them too.
        public_epochs: of the pretraining.
        epochs: numbers of epochs, each a run of its own.
        rounds: of federated averaging, one epoch each.
    """

    images: int = 128
    tests: int = 128
    trials: int = 64
    public: int = 768
    public_epochs: int = 12
    epochs: tuple[int, ...] = (12, 30)
    rounds: int = 30


FULL = Scale()
QUICK = Scale(images=16, tests=16, trials=8, public=32, public_epochs=1, epochs=(1, 2), rounds=2)


@dataclass(frozen=True)
class Place:
    """The folder that all of it lies in."""

    folder: Path
    scale: Scale

    @property
    def pretrained(self) -> Path:
        return self.folder / "pretrained/pretrained.safetensors"

    @property
    def public(self) -> Path:
        """The folder of the public pictures; those of the split train were trained on."""
        return self.folder / "public"

    def homes(self, seed: int) -> list[Path]:
        """Give the folders of the edges' pictures, and last of those that no edge has; made if need be."""
        order = Order(
            images=self.scale.images,
            held_out=self.scale.tests + self.scale.trials,
            classes=CLASSES,
            size=SIZE,
            seed=seed,
            edges=EDGES,
        )
        return make_sets(self.folder / f"private-{seed}", order)


def pretrain(place: Place) -> dict[str, Any]:
    """Pretrain as a user would, by the example's own command; give how long it took and what came of it.

    On one thread, which adds in one order. What an earlier run left stays as it is.
    """
    told = place.folder / "pretrained/told.json"
    if not told.exists():
        options = {
            "--images": place.scale.public,
            "--epochs": place.scale.public_epochs,
            "--size": SIZE,
            "--seed": EVERYBODYS_SEED,
            "--cut-layer": CUT,
            "--device": "cpu",
            "--threads": 1,
            "--data": place.public,
            "--output": place.pretrained.parent,
        }
        command = [sys.executable, str(EXAMPLE / "pretrain.py")]
        command += [str(word) for option in options.items() for word in option]
        outcome = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        told.write_text(outcome.stdout.splitlines()[-1])
    found: dict[str, Any] = json.loads(told.read_bytes())
    return found
