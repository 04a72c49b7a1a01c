"""Pretrain YOLOv5 on a public set that is made here: nothing is downloaded.

    python pretrain.py

paints 768 pictures of discs, squares and triangles (data/public), trains YOLOv5n on them, and writes
output/pretrained.safetensors, the whole network, and output/extractor.safetensors, its first four
layers: all that an edge is ever sent. That is 576 steps of about 0.11 seconds of one core. Pictures that
are there already are not painted again; the same options give the same weights on the same kind of
processor with the same number of threads.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import torch
from detector.checkpoints import write_network
from detector.evaluation import Precision, evaluate
from detector.network import LAYOUTS, WIDTHS, Network, Shape, check_cut, split
from detector.recipe import SMALL_ANCHOR_SCALE, SMALL_RECIPE, device_of
from detector.samples import Samples
from detector.training import Progress, Trainer, pictures_of

from fedloom.data.generator import Order, make_sets
from fedloom.training.torch import bound_threads, seed_everything

FOLDER = Path(__file__).parent


def main() -> None:
    """Make the set, train, write both files, print the precision on pictures never trained on."""
    options = _options()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    bound_threads(options.threads)
    seed_everything(options.seed)
    order = Order(
        images=options.images,
        held_out=max(8, options.images // 8),
        size=options.size,
        seed=options.seed,
        family="public",
    )
    home = make_sets(options.data, order)[0]
    shape = Shape(options.network, order.classes, options.layout, SMALL_ANCHOR_SCALE)
    network = Network(shape).to(device_of(options.device))
    started = time.perf_counter()
    precision = train(network, home, options)
    network.cpu()
    write_network(options.output / "pretrained.safetensors", network)
    write_network(options.output / "extractor.safetensors", split(network, options.cut_layer)[0])
    seconds = round(time.perf_counter() - started, 1)
    print(json.dumps({"seconds": seconds, **precision.metrics()}))


def train(network: Network, home: Path, options: argparse.Namespace) -> Precision:
    """Train a network in place on the split train of a folder; its precision on the split val."""
    device, classes = next(network.parameters()).device, network.shape.classes
    recipe = replace(SMALL_RECIPE, epochs=options.epochs, batch_size=options.batch_size)
    samples = Samples(home, options.size, classes, "train")
    Trainer(network, recipe).run(pictures_of(samples, recipe, options.seed), _tell)
    held_out = Samples(home, options.size, classes, "val")
    return evaluate(network, held_out, network.head.anchors.to(device))


def _tell(progress: Progress) -> None:
    logging.info("epoch %d: loss %.3f", progress.epoch, progress.loss)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=768)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--size", type=int, default=96, help="side of the pictures in pixels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--network", choices=WIDTHS, default="n")
    parser.add_argument("--layout", choices=LAYOUTS, default="v6")
    parser.add_argument("--cut-layer", type=_cut, default=4, help="layers that run on the edge")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda ...")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--data", type=Path, default=FOLDER / "data" / "public")
    parser.add_argument("--output", type=Path, default=FOLDER / "output")
    return parser.parse_args()


def _cut(text: str) -> int:
    try:
        return check_cut(int(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    main()
