from ipaddress import ip_network

import pytest

from serve_app.callers import Access, Asking, client_address, make_access
from serve_app.config import AuthConfig, Config, HttpConfig
from serve_app.errors import BadConfig, Forbidden, KeyRequired, KeyUnknown, OriginRefused
from serve_app.keeping import NOBODY
from serve_app.keys import Role, new_key
from serve_app.quotas import Quota

TEXT, KEY = new_key("app", Role.SEARCH)
WRITING, WRITER = new_key("feed", Role.WRITE, per_minute=7)
KEYS = f"{KEY.line}\n{WRITER.line}"
HERE = Asking(host="127.0.0.1:8000")
PAGE = Asking(host="search.example.com", origin="https://shop.example.com", peer="192.0.2.7")


def access(host: str = "127.0.0.1", **auth: object) -> Access:
    return make_access(Config(http=HttpConfig(host=host), auth=AuthConfig(**auth)))


def with_key(text: str) -> Asking:
    return Asking(authorization=f"Bearer {text}", host="search.example.com")


def test_key_says_who_calls_and_what_they_may():
    caller = access(keys=KEYS).caller(with_key(TEXT))
    assert (caller.name, caller.role, caller.quota) == ("app", Role.SEARCH, Quota("key", 600))
    other = access(keys=KEYS).caller(with_key(WRITING))
    assert (other.name, other.role, other.quota) == ("feed", Role.WRITE, Quota("key", 7))
    assert len({caller.owner, other.owner, NOBODY}) == 3
    assert TEXT not in caller.owner


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_scheme_is_read_whatever_its_case(scheme):
    assert access(keys=KEYS).caller(Asking(authorization=f"{scheme} {TEXT}")).name == "app"


@pytest.mark.parametrize("text", [f"Basic {TEXT}", TEXT, "Bearer", "Bearer ", "Bearer shoplens_other"])
@pytest.mark.parametrize("auth", [{"keys": KEYS}, {"anonymous_search": True}, {"public": True}, {}])
def test_wrong_key_is_refused_even_where_none_is_needed(text, auth):
    with pytest.raises(KeyUnknown):
        access(**auth).caller(Asking(authorization=text, host="127.0.0.1"))


def test_key_is_needed_where_there_are_keys():
    with pytest.raises(KeyRequired, match="Authorization: Bearer KEY"):
        access(keys=KEYS).caller(HERE)


def test_anonymous_callers_search_beside_those_with_keys():
    made = access("0.0.0.0", keys=KEYS, anonymous_search=True)
    anonymous = made.caller(PAGE)
    assert (anonymous.role, anonymous.owner, anonymous.quota) == (Role.SEARCH, NOBODY, None)
    with pytest.raises(KeyRequired):
        made.allow(anonymous, Role.WRITE)
    made.allow(made.caller(with_key(WRITING)), Role.WRITE)


def test_nobody_writes_where_there_are_no_keys():
    made = access("0.0.0.0", anonymous_search=True)
    made.allow(made.caller(HERE), Role.SEARCH)
    with pytest.raises(Forbidden, match="shoplens keys new --role write"):
        made.allow(made.caller(HERE), Role.WRITE)


def test_key_of_another_role_is_forbidden_by_name():
    made = access(keys=KEYS)
    with pytest.raises(Forbidden, match="app has the role search"):
        made.allow(made.caller(with_key(TEXT)), Role.WRITE)


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000"])
@pytest.mark.parametrize("origin", ["", "http://{}"])
def test_a_laptop_answers_its_own_machine_everything(host, origin):
    made = access()
    made.allow(made.caller(Asking(host=host, origin=origin.format(host))), Role.ADMIN)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example.com", ""),
        ("evil.example.com", "http://evil.example.com"),
        ("127.0.0.1:8000", "http://evil.example.com"),
        ("127.0.0.1:8000", "null"),
        ("127.0.0.1:8000", "http://127.0.0.1:9000"),
        ("", ""),
    ],
)
def test_a_site_in_a_browser_of_that_machine_may_only_search(host, origin):
    made = access()
    caller = made.caller(Asking(host=host, origin=origin))
    made.allow(caller, Role.SEARCH)
    with pytest.raises(Forbidden, match="another site"):
        made.allow(caller, Role.WRITE)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_a_service_that_others_reach_does_not_start_without_a_word_on_who_may(host, tmp_path):
    with pytest.raises(BadConfig, match=r"shoplens keys new .* auth\.anonymous_search"):
        access(host)
    for auth in ({"keys": KEYS}, {"anonymous_search": True}, {"public": True}):
        access(host, **auth)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_a_laptop_starts_without_keys(host):
    access(host)


def test_file_of_keys_that_holds_none_is_refused_at_the_start(tmp_path):
    (tmp_path / "keys").write_text("# none yet\n")
    with pytest.raises(BadConfig, match="holds no key"):
        access(keys_file=tmp_path / "keys")


def test_key_that_is_taken_out_of_the_file_is_refused(tmp_path):
    path = tmp_path / "keys"
    path.write_text(KEYS)
    made = access("0.0.0.0", keys_file=path)
    assert made.caller(with_key(TEXT)).name == "app"
    path.write_text("# none any more\n")
    with pytest.raises(KeyUnknown):
        made.caller(with_key(TEXT))
    with pytest.raises(KeyRequired):
        made.caller(HERE)


def test_public_callers_search_and_are_counted_by_address():
    made = access("0.0.0.0", public=True, origins=("https://shop.example.com",))
    caller, other = made.caller(PAGE), made.caller(Asking(**{**fields(PAGE), "peer": "192.0.2.8"}))
    assert (caller.role, caller.quota) == (Role.PUBLIC, Quota("address", 60))
    assert caller.owner != other.owner
    assert caller.owner == made.caller(PAGE).owner
    assert "192.0.2.7" not in caller.owner
    with pytest.raises(Forbidden):
        made.allow(caller, Role.SEARCH)


def fields(asking: Asking) -> dict[str, str]:
    return {name: getattr(asking, name) for name in Asking.__slots__}


@pytest.mark.parametrize("origin", ["", "null", "https://shop.example.com.evil.net", "http://shop.example.com"])
def test_pages_of_other_origins_are_refused(origin):
    made = access(public=True, origins=("https://shop.example.com",))
    with pytest.raises(OriginRefused, match=r"auth\.origins"):
        made.caller(Asking(host="search.example.com", origin=origin))


def test_the_services_own_page_is_public_and_so_is_any_where_all_origins_may():
    own = Asking(host="search.example.com", origin="https://search.example.com")
    assert access(public=True).caller(own).role is Role.PUBLIC
    assert access(public=True, origins=("*",)).caller(PAGE).role is Role.PUBLIC


def test_a_get_of_the_services_own_page_is_public_though_browsers_name_no_origin_in_it():
    made = access(public=True)
    assert made.caller(Asking(host="search.example.com", from_own_page=True)).role is Role.PUBLIC
    with pytest.raises(OriginRefused):
        made.caller(Asking(host="search.example.com", origin="https://evil.example", from_own_page=True))


def test_public_and_anonymous_search_are_not_set_together():
    with pytest.raises(ValueError, match="one of the two"):
        AuthConfig(public=True, anonymous_search=True)


@pytest.mark.parametrize(
    "origin",
    ["shop.example.com", "https://shop.example.com/", "https://*.example.com", "https://Shop.com", "ftp://a", ""],
)
def test_origin_that_no_browser_would_send_is_refused(origin):
    with pytest.raises(ValueError, match="origins"):
        AuthConfig(origins=(origin,))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("192.0.2.7", "", "192.0.2.7"),
        ("192.0.2.7", "198.51.100.1", "192.0.2.7"),
        ("10.0.0.2", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.2", "203.0.113.9, 198.51.100.1, 10.0.0.3", "198.51.100.1"),
        ("10.0.0.2", "10.0.0.4, 10.0.0.3", "10.0.0.4"),
        ("10.0.0.2", "198.51.100.1, nonsense", "nonsense"),
        ("10.0.0.2", " , ", "10.0.0.2"),
        ("", "198.51.100.1", ""),
    ],
)
def test_address_is_the_last_one_that_no_trusted_proxy_has(peer, forwarded_for, address):
    asking = Asking(peer=peer, forwarded_for=forwarded_for)
    assert client_address(asking, (ip_network("10.0.0.0/8"),)) == address


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("", "nonsense", True),
    ],
)
def test_addresses_of_one_customer_share_a_quota(one, other, same):
    made = access(public=True, origins=("*",))
    first, second = (made.caller(Asking(origin="https://a.example", peer=peer)).owner for peer in (one, other))
    assert (first == second) is same
