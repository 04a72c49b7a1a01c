"""The client half of the Flower run.

A module of its own so that Ray's actors import it by name once; an app defined in the main program
would be sent to them by value with every message, which is slower.
"""

from __future__ import annotations

import os
from pathlib import Path

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from peers import data_files, digits

DATA_VARIABLE = "DIGITS_DATA"

app = ClientApp()


def to_record(model: digits.Model) -> ArrayRecord:
    return ArrayRecord({name: Array(array) for name, array in model.items()})


def from_record(record: ArrayRecord) -> digits.Model:
    return {name: array.numpy() for name, array in record.items()}


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one client for one round: the same call as in every other system."""
    client = int(context.node_config["partition-id"])
    images = digits.load(data_files.client_file(Path(os.environ[DATA_VARIABLE]), client))
    model = from_record(message.content["arrays"])
    number = int(message.content["config"]["server-round"])
    trained = digits.train(model, images, number, client)
    reply = RecordDict(
        {
            "arrays": to_record(trained),
            "metrics": MetricRecord({"num-examples": len(images.y)}),
        }
    )
    return Message(content=reply, reply_to=message)
