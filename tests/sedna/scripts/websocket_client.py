"""What an old Sedna image holds: an estimator and a client of V1's websocket protocol, written against the
protocol's facts. Standard library and numpy only, so that it runs in a plain Python image.

    AGG_IP, AGG_PORT      where the aggregator listens
    WORKER_NAME           this client's id
    TRAIN_DATASET_URL     a text file: a number in each line; without one, ten numbers drawn by WORKER_NAME
    AGGREGATION           the path, FedAvg if unset
    CONNECT_TIMEOUT       for how many seconds the aggregator is tried, 300 if unset
    MODEL_URL, MODEL_NAME where the last weights are saved, as text; nowhere if MODEL_URL is unset or missing

The estimator pulls its two tensors half way to the mean of its numbers; it starts from weights of its own.
"""

import base64
import contextlib
import json
import os
import random
import socket
import struct
import sys
import time

import numpy as np


class Wire:
    """A websocket's client side: text messages, pings answered while it reads."""

    def __init__(self, host, port, path, patience_seconds):
        self._socket = self._connected(host, port, patience_seconds)
        key = base64.b64encode(os.urandom(16)).decode()
        request = (
            f"GET /{path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        self._socket.sendall(request.encode())
        self._file = self._socket.makefile("rb")
        status = self._file.readline().decode()
        if " 101 " not in status:
            raise ConnectionError(f"got {status.strip()!r}, expected 101")
        while self._file.readline().strip():
            pass

    def limit(self, seconds):
        """Let no later call take longer."""
        self._socket.settimeout(seconds)

    def send(self, text):
        self._frame(0x1, text.encode())

    def receive(self):
        """Give the next text message; raises ConnectionError at the end."""
        parts = []
        while True:
            first, second = self._exactly(2)
            size = second & 0x7F
            if size == 126:
                (size,) = struct.unpack(">H", self._exactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", self._exactly(8))
            payload, kind = self._exactly(size), first & 0xF
            if kind == 0x8:
                self.close()
                code = struct.unpack(">H", payload[:2])[0] if payload else 1005
                raise ConnectionError(f"closed with {code}: {payload[2:].decode()}")
            if kind == 0x9:
                self._frame(0xA, payload)
            elif kind in (0x0, 0x1):
                parts.append(payload)
                if first & 0x80:
                    return b"".join(parts).decode()

    def close(self):
        """Say goodbye; a second time, or where the other end has gone, does no harm."""
        with contextlib.suppress(OSError):
            self._frame(0x8, struct.pack(">H", 1000))
        self._file.close()
        self._socket.close()

    def _frame(self, kind, payload):
        size = len(payload)
        if size < 126:
            head = struct.pack(">BB", 0x80 | kind, 0x80 | size)
        elif size < 1 << 16:
            head = struct.pack(">BBH", 0x80 | kind, 0x80 | 126, size)
        else:
            head = struct.pack(">BBQ", 0x80 | kind, 0x80 | 127, size)
        # A mask of zeros is a mask: what it hides from proxies is no secret here.
        self._socket.sendall(head + b"\0\0\0\0" + payload)

    def _exactly(self, size):
        data = self._file.read(size)
        if len(data) < size:
            raise ConnectionError("the aggregator has gone")
        return data

    @staticmethod
    def _connected(host, port, patience_seconds):
        end = time.monotonic() + patience_seconds
        while True:
            try:
                found = socket.create_connection((host, port), timeout=10)
                found.settimeout(None)
                return found
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)


class Estimator:
    """Two tensors that follow the mean of the client's numbers."""

    def __init__(self, numbers, seed):
        draw = random.Random(seed)
        self.numbers = numbers
        self.weights = [
            np.array([[draw.gauss(0, 1) for _ in range(3)] for _ in range(2)], np.float32),
            np.zeros(3, np.float32),
        ]

    def train(self):
        mean = np.float32(np.mean(self.numbers))
        self.weights = [weight + np.float32(0.5) * (mean - weight) for weight in self.weights]

    def get_weights(self):
        return [weight.tolist() for weight in self.weights]

    def set_weights(self, weights):
        self.weights = [np.array(weight, np.float32) for weight in weights]


def numbers_of(path, name):
    if path and os.path.exists(path):
        return [float(line) for line in open(path) if line.strip()]
    draw = random.Random(name)
    return [draw.gauss(0, 1) for _ in range(10)]


def main():
    name, host, port = os.environ["WORKER_NAME"], os.environ["AGG_IP"], os.environ["AGG_PORT"]
    numbers = numbers_of(os.environ.get("TRAIN_DATASET_URL", ""), name)
    estimator = Estimator(numbers, seed=name)
    patience = float(os.environ.get("CONNECT_TIMEOUT", "300"))
    wire = Wire(host, int(port), os.environ.get("AGGREGATION", "FedAvg"), patience)
    wire.send(json.dumps({"type": "subscribe", "client_id": name}))
    while json.loads(wire.receive()) != {"type": "subscribe", "client_id": name}:
        pass
    print(f"{name}: subscribed at {host}:{port} with {len(numbers)} numbers", flush=True)
    is_last = False
    while not is_last:
        estimator.train()
        data = {"num_samples": len(numbers), "weights": estimator.get_weights()}
        update = {"type": "update_weight", "client": name, "job_name": os.environ.get("JOB_NAME")}
        wire.send(json.dumps({**update, "data": data}))
        received = json.loads(wire.receive())
        while received.get("type") != "recv_weight":
            received = json.loads(wire.receive())
        estimator.set_weights(received["data"]["weights"])
        is_last = received["data"]["exit_flag"] == "ok"
        print(
            f"{name}: round {received['round_number']} of {received['data']['total_sample']}",
            flush=True,
        )
    wire.close()
    folder = os.environ.get("MODEL_URL", "")
    if os.path.isdir(folder):
        with open(
            os.path.join(folder, os.environ.get("MODEL_NAME", "model") + ".json"), "w"
        ) as file:
            json.dump(estimator.get_weights(), file)
    print(f"{name}: {json.dumps(estimator.get_weights())}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
