"""What the controller counts, as Prometheus text at /metrics; /healthz and /readyz beside it."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_BUCKETS = (0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0)
_PAGE_BYTES = 4096

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counters, histograms and gauges by name and labels; safe to use from any thread.

    Names and their one-line meanings are fixed by `help_texts`.
    """

    def __init__(self, help_texts: Mapping[str, str]) -> None:
        self._help = help_texts
        self._lock = threading.Lock()
        self._counts: dict[str, dict[Labels, float]] = {}
        self._histograms: dict[str, dict[Labels, list[float]]] = {}
        self._gauges: dict[str, Callable[[], Mapping[Labels, float]]] = {}

    def add(self, name: str, value: float = 1.0, **labels: str) -> None:
        """Count."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            series = self._counts.setdefault(name, {})
            series[key] = series.get(key, 0.0) + value

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Put a duration into a histogram."""
        key = tuple(sorted(labels.items()))
        with self._lock:
            series = self._histograms.setdefault(name, {})
            cells = series.setdefault(key, [0.0] * (len(_BUCKETS) + 2))
            for index, bound in enumerate(_BUCKETS):
                cells[index] += seconds <= bound
            cells[-2] += 1
            cells[-1] += seconds

    def gauge(self, name: str, read: Callable[[], Mapping[Labels, float]]) -> None:
        """Have a value read whenever it is asked for."""
        self._gauges[name] = read

    def render(self) -> str:
        """Everything in Prometheus' text format."""
        with self._lock:
            lines = [*self._counter_lines(), *self._histogram_lines()]
        for name, read in self._gauges.items():
            lines += [*self._head(name, "gauge")]
            lines += [_line(name, labels, value) for labels, value in read().items()]
        return "\n".join(lines) + "\n"

    def _counter_lines(self) -> Iterator[str]:
        for name, series in self._counts.items():
            yield from self._head(name, "counter")
            for labels, value in series.items():
                yield _line(name, labels, value)

    def _histogram_lines(self) -> Iterator[str]:
        for name, series in self._histograms.items():
            yield from self._head(name, "histogram")
            for labels, cells in series.items():
                for bound, value in zip((*_BUCKETS, "+Inf"), cells, strict=False):
                    yield _line(f"{name}_bucket", (*labels, ("le", str(bound))), value)
                yield _line(f"{name}_count", labels, cells[-2])
                yield _line(f"{name}_sum", labels, cells[-1])

    def _head(self, name: str, kind: str) -> Iterator[str]:
        yield f"# HELP {name} {self._help.get(name, name)}"
        yield f"# TYPE {name} {kind}"


def resident_bytes() -> float:
    """This process's memory; 0 where the system does not tell."""
    try:
        return float(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0.0


def serve(
    listen: tuple[str, int],
    metrics: Metrics,
    is_healthy: Callable[[], bool],
    is_ready: Callable[[], bool],
) -> http.server.ThreadingHTTPServer:
    """Answer on a thread that ends with the process."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.split("?", maxsplit=1)[0]
            if path == "/metrics":
                self._answer(200, metrics.render(), "text/plain; version=0.0.4")
            elif path in ("/healthz", "/readyz"):
                is_well = is_healthy() if path == "/healthz" else is_ready()
                self._answer(200 if is_well else 503, "ok\n" if is_well else "not yet\n")
            else:
                self._answer(404, "one of /metrics /healthz /readyz\n")

        def _answer(self, code: int, text: str, kind: str = "text/plain") -> None:
            body = text.encode()
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(listen, Handler)
    threading.Thread(target=server.serve_forever, name="exposition", daemon=True).start()
    return server


def _line(name: str, labels: Labels, value: float) -> str:
    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
    return f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
