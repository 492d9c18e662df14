"""Sign in to Milvus, waiting until it answers."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pymilvus import MilvusClient, MilvusException

RETRY_S = 3.0
CALL_TIMEOUT_S = 10.0


def connect(arguments: argparse.Namespace, user: str, password: str, deadline: float) -> MilvusClient | None:
    """Return a client that is signed in; None where Milvus refuses the password.

    Raises MilvusException when Milvus does not answer before the deadline, in seconds of time.monotonic().
    """
    who = {"user": user, "password": password} if user else {}
    tls = {"server_pem_path": arguments.ca} if arguments.ca else {}
    while True:
        try:
            return MilvusClient(uri=arguments.uri, timeout=CALL_TIMEOUT_S, **who, **tls)
        except MilvusException as error:
            if _refused(error):
                return None
            if time.monotonic() > deadline:
                raise
            print("waiting for Milvus …", flush=True)
            time.sleep(RETRY_S)


def _refused(error: MilvusException) -> bool:
    # pymilvus says the same of a wrong password and of a server that is away; what gRPC said is its cause.
    code = getattr(error.__cause__, "code", None)
    return code is not None and code().name == "UNAUTHENTICATED"


def parser(description: str) -> argparse.ArgumentParser:
    """Return the arguments that every script here takes."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--uri", required=True, help="http://HOST:19530 of Milvus")
    made.add_argument("--secret", type=Path, help="folder with the passwords, where Milvus asks for them")
    made.add_argument("--ca", help="file with the authority's certificate, for https")
    made.add_argument("--deadline-s", type=float, default=600, help="seconds to wait for Milvus")
    return made


def secret(folder: Path, name: str) -> str:
    """Return a password from the folder that a Secret is mounted at."""
    return (folder / name).read_text().strip()
