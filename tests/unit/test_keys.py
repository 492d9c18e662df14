import pytest

from serve_app.errors import BadConfig
from serve_app.keys import Key, KeyRing, Role, new_key, parse_keys, read_keys
from serve_app.watched_file import WatchedFile

HASH = "sha256:" + "0" * 64


def test_key_is_known_by_its_hash_alone():
    text, key = new_key("app", Role.SEARCH)
    other, _ = new_key("app", Role.SEARCH)
    ring = parse_keys(key.line)
    assert ring.find(text) == key
    assert [ring.find(each) for each in (other, text + "x", text[:-1], "", key.sha256, "x" * 100_000)] == [None] * 6
    assert text not in repr(key)


def test_key_is_long_random_and_easy_to_recognise():
    texts = {new_key("app", Role.SEARCH)[0] for _ in range(10)}
    assert len(texts) == 10
    assert all(text.startswith("shoplens_") and len(text) >= len("shoplens_") + 43 for text in texts)


def test_file_holds_names_roles_hashes_and_rates():
    hashes = [digit * 64 for digit in "abc"]
    lines = "# our app\n\napp search sha256:{}\n feed\twrite sha256:{} 3000\nme admin sha256:{}\n"
    ring = parse_keys(lines.format(*hashes))
    assert ring._keys == (
        Key("app", Role.SEARCH, hashes[0]),
        Key("feed", Role.WRITE, hashes[1], 3000),
        Key("me", Role.ADMIN, hashes[2]),
    )
    assert parse_keys("\n".join(key.line for key in ring._keys))._keys == ring._keys


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app search", "line 1"),
        (f"a/b search {HASH}", "line 1"),
        (f"\napp search {HASH} 10 20", "line 2"),
        (f"app public {HASH}", "app has no known role"),
        (f"app root {HASH}", "app has no known role"),
        ("app search sha256:123", "shoplens keys new"),
        ("app search hunter2", "app has no hash"),
        (f"app search {HASH} 0", "number of requests"),
        (f"app search {HASH} many", "number of requests"),
        (f"app search {HASH}\napp write {HASH}", "two keys are named app"),
    ],
)
def test_file_that_can_not_be_read_is_refused_with_the_place(text, said):
    with pytest.raises(BadConfig, match=said):
        parse_keys(text)


@pytest.mark.parametrize("text", ["shoplens_secret", f"shoplens_secret search {HASH}", "app search shoplens_secret"])
def test_key_that_stands_in_the_file_itself_is_not_repeated_in_the_error(text):
    with pytest.raises(BadConfig) as refused:
        parse_keys(text)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    ("name", "role"), [("app", Role.PUBLIC), ("", Role.SEARCH), ("a b", Role.SEARCH), ("ä", Role.ADMIN)]
)
def test_key_that_no_file_could_hold_is_not_made(name, role):
    with pytest.raises(BadConfig):
        new_key(name, role)


@pytest.mark.parametrize(
    ("role", "covered"),
    [(Role.PUBLIC, 1), (Role.SEARCH, 2), (Role.WRITE, 3), (Role.ADMIN, 4)],
)
def test_role_may_do_what_those_before_it_may(role, covered):
    assert [role.covers(needed) for needed in Role] == [True] * covered + [False] * (4 - covered)


def written(path, *keys: Key) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text("\n".join(key.line for key in keys))
    fresh.replace(path)


def test_keys_come_and_go_with_the_file(tmp_path):
    path = tmp_path / "keys"
    (first, one), (second, two) = new_key("one", Role.SEARCH), new_key("two", Role.WRITE)
    written(path, one)
    file = WatchedFile(path, read_keys, "keys")
    assert (file.current().find(first), file.current().find(second)) == (one, None)
    written(path, two)
    assert (file.current().find(first), file.current().find(second)) == (None, two)
    written(path)
    assert (len(file.current()), file.current().find(second)) == (0, None)


@pytest.mark.parametrize("harm", [lambda path: path.write_text("half a li"), lambda path: path.unlink()])
def test_keys_stay_while_their_file_can_not_be_read(tmp_path, harm, caplog):
    path = tmp_path / "keys"
    text, key = new_key("one", Role.SEARCH)
    written(path, key)
    file = WatchedFile(path, read_keys, "keys")
    harm(path)
    assert [file.current().find(text) for _ in range(3)] == [key] * 3
    assert [record.message for record in caplog.records] == ["keys stay as they were"]


def test_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadConfig, match=r"auth\.keys_file"):
        WatchedFile(tmp_path / "keys", read_keys, "keys")


def test_no_key_is_known_where_there_are_none():
    assert KeyRing().find("") is None
