"""Folders of this machine that catalogues were imported from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from serve_app.config import IMPORTED, Config

FILE = Path("imports/folders")
"""In the data directory: one folder a line."""
AS_THEY_ARE = "surrogateescape"
"""Names of folders may be of other bytes than UTF-8's."""


def remember(data_dir: Path, folder: str) -> None:
    """Note that images were imported from a folder."""
    known = imported(data_dir)
    if Path(folder) in known or "\n" in folder:
        return
    path = data_dir / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8", errors=AS_THEY_ARE) as file:
        file.write(f"{folder}\n")


def imported(data_dir: Path) -> tuple[Path, ...]:
    """Return the folders that were noted; none where nothing was imported from files yet."""
    try:
        lines = (data_dir / FILE).read_text(encoding="utf-8", errors=AS_THEY_ARE).splitlines()
    except FileNotFoundError:
        return ()
    return tuple(Path(line) for line in lines if line)


def image_folders(config: Config) -> Callable[[], Sequence[Path]]:
    """Return what tells the folders whose pictures may be shown now."""
    folders = config.page.image_folders
    if folders == IMPORTED:
        return lambda: imported(config.data_dir)
    return lambda: () if folders is None else tuple(folders)
