from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.keeping import NOBODY, Bounds, Shelf

BOUNDS = Bounds(max_bytes=100, max_bytes_per_key=50, expiry_s=900)


def shelf(**tokens: int) -> Shelf:
    """Return a shelf that holds a photo of so many bytes for each token, one second after the other."""
    made = Shelf(BOUNDS)
    for now_s, (token, size_bytes) in enumerate(tokens.items()):
        assert made.open(now_s, NOBODY, token, {"photo": bytes(size_bytes)})
    return made


def held(made: Shelf, *tokens: str, now_s: float = 10, owner: str = NOBODY) -> list[bool]:
    return [made.read(now_s, owner, token, "photo") is not None for token in tokens]


def test_photo_is_there_until_its_token_expires():
    made = shelf(a=10)
    assert made.read(899, NOBODY, "a", "photo") == bytes(10)
    assert made.read(900, NOBODY, "a", "photo") is None


def test_what_has_expired_takes_no_room():
    made = shelf(a=10, b=10)
    made.sweep(900)
    assert made.size_bytes == 10


def test_parts_go_with_their_token():
    made = shelf(a=10)
    assert made.add(899, NOBODY, "a", {"ranking": b"r"})
    assert made.read(899, NOBODY, "a", "ranking") == b"r"
    assert made.read(900, NOBODY, "a", "ranking") is None
    assert not made.add(900, NOBODY, "a", {"ranking": b"r"})


def test_part_that_is_there_stays_as_it_is():
    made = shelf(a=10)
    assert made.add(1, NOBODY, "a", {"photo": b"another"})
    assert made.read(1, NOBODY, "a", "photo") == bytes(10)
    assert made.size_bytes == 10


def test_oldest_goes_where_room_is_short():
    made = shelf(a=40, b=40, c=40)
    assert held(made, "a", "b", "c") == [False, True, True]
    assert made.size_bytes == 80


def test_photo_larger_than_all_the_room_is_not_kept():
    made = Shelf(BOUNDS)
    assert not made.open(0, NOBODY, "a", {"photo": bytes(101)})
    assert made.size_bytes == 0


def test_key_makes_room_among_its_own_photos_first():
    made = shelf(public=40)
    for token in ("a", "b", "c"):
        made.open(5, "shop", token, {"photo": bytes(20)})
    assert held(made, "public") == [True]
    assert held(made, "a", "b", "c", owner="shop") == [False, True, True]


def test_token_is_its_owners_alone():
    made = shelf(a=10)
    assert held(made, "a", owner="shop") == [False]
    assert not made.add(1, "shop", "a", {"ranking": b"r"})
    assert not made.open(1, "shop", "a", {"photo": b"p"})


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "x", "y"]), st.sampled_from("abcdef"), st.integers(0, 120), st.booleans()),
        max_size=40,
    )
)
@settings(max_examples=50, deadline=None)
def test_never_more_is_held_than_allowed(calls):
    made = Shelf(BOUNDS)
    for now_s, (owner, token, size_bytes, opens) in enumerate(calls):
        put = made.open if opens else made.add
        kept = put(60 * now_s, owner, token, {f"part {now_s}": bytes(size_bytes)})
        assert kept == (made.read(60 * now_s, owner, token, f"part {now_s}") is not None)
        assert made.size_bytes <= BOUNDS.max_bytes
