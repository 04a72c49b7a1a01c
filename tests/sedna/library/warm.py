"""A Python that has torch loaded already and runs scripts in forks of itself: loading it takes seconds.

    python -c "import warm; warm.serve()"

A fork runs the script as its `__main__` and ends as any interpreter does, with exit code, traceback and
atexit functions; only what torch clears up behind those is left out, which takes longer than the script.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
from pathlib import Path


def serve() -> None:
    """Take requests, a JSON object a line; answer each with the script's exit code."""
    import torch

    torch.optim.SGD([torch.zeros(1)])  # loads what only training needs
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if not process:
            _run(json.loads(line))
            return
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(request: dict) -> None:
    signal.alarm(request["seconds"])
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, output, output)):
        os.dup2(descriptor, number)
    path = request["command"][0]
    sys.argv[:] = request["command"]
    sys.path[0] = os.path.dirname(path)
    sys.path[1:1] = os.environ["PYTHONPATH"].split(os.pathsep)
    main = vars(sys.modules["__main__"])
    main.pop("warm")
    main["__file__"] = path
    code = 0
    atexit.register(lambda: _leave(code))  # the first one, which is called last
    try:
        exec(compile(Path(path).read_text(), path, "exec", dont_inherit=True), main)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except BaseException:
        code = 1
        raise


def _leave(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
