"""`shoplens keys`."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer
from rich.console import Console

from serve_app.cli.options import console
from serve_app.keys import Role, new_key

app = typer.Typer(help="API keys, of which the service knows only the hashes.", no_args_is_help=True)

SUFFIX_BYTES = 3


@app.callback()
def _group() -> None:
    # With one command alone, typer would make the group that command.
    pass


@app.command()
def new(
    role: Annotated[Role, typer.Option(help="What it may do: search, write (and search), or admin (everything).")],
    name: Annotated[str, typer.Option(help="What the log calls it; default: made of the role.")] = "",
    per_minute: Annotated[
        int | None, typer.Option(help="Requests a minute; default: auth.requests_per_minute_per_key.", min=1)
    ] = None,
) -> None:
    """Make a key, and print it once, with the line that `auth.keys_file` takes.

    Give the key to who calls, as the header `Authorization: Bearer KEY`, and add the line to the file, which a running
    service reads again. To take a key back, remove its line. Example:

        shoplens keys new --role search --name shop-app
    """
    show_new(role, name or f"{role}-{secrets.token_hex(SUFFIX_BYTES)}", per_minute, console())


def show_new(role: Role, name: str, per_minute: int | None, console: Console) -> None:
    """Print a new key; raises BadConfig for a role or name that no key can have."""
    text, key = new_key(name, role, per_minute)
    console.print(f"key, shown this once: {text}", soft_wrap=True, markup=False)
    console.print(f"line for auth.keys_file: {key.line}", soft_wrap=True, markup=False)
