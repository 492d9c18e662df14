"""What the README shows of the HTTP interface works: its curl lines by curl, its Python by Python."""

import asyncio
import re
import shlex
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn

from scripts.measuring import free_port, wait_until
from serve_app.api.app import create_app
from serve_app.cli import app as commands
from serve_app.config import AuthConfig
from serve_app.keys import parse_keys
from tests.unit.builders import hit
from tests.unit.test_api import ANSWER, FakeService
from tests.unit.test_inference_api import ModelService
from tests.unit.test_products_api import ProductService, stored
from tests.unit.test_writing_api import WritingService

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
LAPTOP, SHOP = "http://127.0.0.1:8000", "https://search.example.com"
BLOCKS = re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", README, re.M)


def commands_of(text: str) -> Iterator[str]:
    """Yield the curl commands that ask for /v1 or a model, each with the lines that it goes on over."""
    command = ""
    for line in text.splitlines():
        if not line.startswith("    "):
            command = ""
        elif command or line.startswith("    curl "):
            command += line.removeprefix("    ") + "\n"
            if is_whole(command):
                if "/v1/" in command or "/v2/models/" in command:
                    yield command
                command = ""


def is_whole(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:
        return False
    return not command.endswith("\\\n")


COMMANDS = list(commands_of(README))
(PYTHON,) = [block for block in BLOCKS if "serve_app.client" in block]
(KEY_LINE,) = re.findall(r"line for auth\.keys_file: (.+)", README)
(KEY,) = set(re.findall(r"shoplens_[A-Za-z0-9_-]{43}", README))


class Laptop(WritingService, ProductService, ModelService):
    """Know the README's product, and take all that it is sent."""

    max_body_bytes = 10**6

    def __init__(self) -> None:
        super().__init__()
        self.outcome = replace(ANSWER, token="t-1")
        self.known = stored(hit("208", 0.0))
        self.asked = []
        self.error = None


class Served:
    """Serve the HTTP interface over canned answers on loopback."""

    def __init__(self, service: FakeService) -> None:
        self.port = free_port()
        self.service = service
        self._server = uvicorn.Server(uvicorn.Config(create_app(service), port=self.port, log_level="error"))
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()))

    def __enter__(self) -> str:
        self._thread.start()
        wait_until(lambda: self._server.started, timeout_s=30, what="the server")
        return f"http://127.0.0.1:{self.port}"

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def addresses() -> Iterator[dict[str, str]]:
    """Return where the README's addresses are: a laptop's, and one that asks for the README's key."""
    laptop = Laptop()
    shop = FakeService(auth=AuthConfig(keys=KEY_LINE))
    with Served(laptop) as here, Served(shop) as there:
        yield {LAPTOP: here, SHOP: there}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("radio.jpg", "chair.jpg"):
        (tmp_path / name).write_bytes(b"a photo")
    (tmp_path / "photos.json").write_text('{"images": ["cGhvdG8=", "YW5vdGhlcg=="], "top_k": 5}')
    return tmp_path


def run(command: str, addresses: dict[str, str], folder: Path) -> str:
    for shown, real in addresses.items():
        command = command.replace(shown, real)
    failing = command.replace("curl ", "curl --silent --show-error --fail-with-body ", 1)
    done = subprocess.run(["bash", "-c", failing], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_readme_has_commands() -> None:
    assert len(COMMANDS) >= 3
    assert {shown for shown in (LAPTOP, SHOP) for command in COMMANDS if shown in command} == {LAPTOP, SHOP}
    assert shutil.which("curl"), "curl is missing; run the tests with ./scripts/test"


@pytest.mark.parametrize("command", COMMANDS, ids=range(len(COMMANDS)))
def test_curl_line_is_answered(command: str, addresses: dict[str, str], folder: Path) -> None:
    wanted = '"model_name"' if "/v2/models/" in command else '"request_id"'
    assert wanted in run(command, addresses, folder)


def test_curl_line_of_the_command_line_is_answered(addresses: dict[str, str], folder: Path) -> None:
    (serve,) = [each for each in commands.registered_commands if each.callback.__name__ == "serve"]
    (command,) = re.findall(r"curl .+", serve.callback.__doc__)
    assert '"request_id"' in run(command, addresses, folder)


def test_command_goes_on_until_its_quotes_are_closed() -> None:
    lines = (
        "    curl 'http://a/v1/x' -d '{\n      1}'\n    {...}\n\n    curl a \\\n      b/v1/\n    curl 'http://a/v2/x'\n"
    )
    assert list(commands_of(lines)) == ["curl 'http://a/v1/x' -d '{\n  1}'\n", "curl a \\\n  b/v1/\n"]


def test_wrong_command_fails(addresses: dict[str, str], folder: Path) -> None:
    with pytest.raises(AssertionError, match="key_required"):
        run(f"curl -F photo=@radio.jpg {SHOP}/v1/search", addresses, folder)


def test_key_is_that_of_its_line() -> None:
    key = parse_keys(KEY_LINE).find(KEY)
    assert key is not None
    assert key.name == "shop-app"


def test_python_runs(addresses: dict[str, str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    code = re.sub(r"^ {4}", "", PYTHON.replace(LAPTOP, addresses[LAPTOP]), flags=re.M)
    exec(compile(code, "README.md", "exec"), {})
