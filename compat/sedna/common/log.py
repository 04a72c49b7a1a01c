"""The log of a script: LOGGER, to stderr, as talkative as LOG_LEVEL says (INFO without it)."""

import logging
import os

__all__ = ("LOGGER",)


def _make_logger() -> logging.Logger:
    logger = logging.getLogger("sedna")
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(
            logging.Formatter("[%(asctime)s] %(filename)s(%(lineno)d) [%(levelname)s] %(message)s")
        )
        logger.addHandler(handler)
        logger.propagate = False
    level = logging.getLevelName(os.environ.get("LOG_LEVEL", "").upper() or "INFO")
    logger.setLevel(level if isinstance(level, int) else logging.INFO)
    return logger


LOGGER = _make_logger()
