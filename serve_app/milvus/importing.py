"""Importing pymilvus where log handlers matter."""

from __future__ import annotations

import importlib
import logging.config


def import_pymilvus() -> None:
    """Import pymilvus without the logging that it sets up, which closes every log handler of the process.

    One of them may be Ray Serve's. A replica that lost it answers with an error when the controller comes back after
    the loss of the head, and is ended for that, as are all others like it (Ray 2.60, serve/_private/logging_utils.py,
    get_component_logger_file_path).
    """
    configure = logging.config.dictConfig
    logging.config.dictConfig = lambda config: None
    try:
        importlib.import_module("pymilvus")
    finally:
        logging.config.dictConfig = configure
