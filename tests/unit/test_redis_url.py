"""What a Redis URL means, or why it cannot be used; nothing of a password is in any message."""

import re
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from dispatcher.redis_url import RedisAddress, Tls, parse_redis_url

MEANINGS: dict[str, RedisAddress] = {
    "redis://h": RedisAddress("h"),
    "REDIS://H.example.:6380/": RedisAddress("H.example.", 6380),
    "redis://h:/3": RedisAddress("h", database=3),
    "redis://h/0?db=0": RedisAddress("h"),
    "redis://h?db=15": RedisAddress("h", database=15),
    "redis://[::1]:7/2": RedisAddress("::1", 7, database=2),
    "redis://[fe80::1%25eth0]": RedisAddress("fe80::1%eth0"),
    "redis://under_score/1/": RedisAddress("under_score", database=1),
    "redis://:p@ss%2Fw%23rd:%2541é@h": RedisAddress("h", password="p@ss/w#rd:%41é"),
    "redis://me@h": RedisAddress("h", user="me"),
    "redis://me:pw@h": RedisAddress("h", user="me", password="pw"),
    "redis://h?username=me&password=p%26w": RedisAddress("h", user="me", password="p&w"),
    "unix:///run/redis.sock": RedisAddress(socket_path="/run/redis.sock"),
    "unix://me:pw@/run/my%20redis.sock?db=2": RedisAddress(
        socket_path="/run/my redis.sock", database=2, user="me", password="pw"
    ),
    "unix:///run/redis.sock?password=pw": RedisAddress(socket_path="/run/redis.sock", password="pw"),
    "rediss://h": RedisAddress("h", tls=Tls()),
    "rediss://h?ssl_cert_reqs=required": RedisAddress("h", tls=Tls()),
    "rediss://h?ssl_cert_reqs=CERT_OPTIONAL": RedisAddress("h", tls=Tls()),
    "rediss://h?ssl_cert_reqs=ssl.CERT_NONE": RedisAddress("h", tls=Tls(is_verified=False, checks_hostname=False)),
    "rediss://h?ssl_check_hostname=False": RedisAddress("h", tls=Tls(checks_hostname=False)),
    "rediss://h?ssl_ca_certs=/etc/ca.pem&ssl_certfile=/c&ssl_keyfile=/k&ssl_password=pw": RedisAddress(
        "h", tls=Tls(ca_file="/etc/ca.pem", cert_file="/c", key_file="/k", key_password="pw")
    ),
}


@pytest.mark.parametrize(("url", "meaning"), MEANINGS.items())
def test_a_url_means_one_thing(url: str, meaning: RedisAddress) -> None:
    assert parse_redis_url(url) == meaning


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "must be a URL that begins with redis://, rediss:// or unix://"),
        ("localhost:6379", "must be a URL that begins with"),
        ("http://h", "must be a URL that begins with"),
        ("redis:/h", "must be a URL that begins with"),
        ("redis+socket:///run/redis.sock", "a socket is written unix:///run/redis.sock?db=0"),
        ("redis+sentinel://h", "Sentinel is not understood"),
        ("valkeys://h", "rediss://"),
        ("redis://", "names no host"),
        ("redis:///0", "names no host"),
        ("redis://:6379/0", "names no host"),
        ("redis://:pw@/0", "names no host"),
        ("redis://${HOST}/0", "no host name"),
        ("redis://a..b", "no host name"),
        ("redis://-h", "no host name"),
        ("redis://h%20", "no host name"),
        ("redis://::1:6379", "in brackets"),
        ("redis://[::1", "in brackets"),
        ("redis://h:6379:1", "in brackets"),
        ("redis://[::1]x", "in brackets"),
        ("redis://[h]:1", "brackets are for an IPv6 address"),
        ("redis://[::g]", "no IPv6 address"),
        *((f"redis://h:{port}/0", "from 1 to 65535") for port in ("0", "70000", "x", "-1", "+1", "６", "1_0")),
        ("redis://h/abc", "the database must be a number, found 'abc'"),
        *((f"redis://h/{db}", "database must be a number") for db in ("-1", "0/1", "/1", "1.0", "٣", "%31", "9" * 12)),
        ("redis://h?db=-1", "option db: the database must be a number, found '-1'"),
        ("redis://h/1?db=2", "the path names one database, option db another"),
        ("redis://h?ssl_ca_certs=/x", "option ssl_ca_certs is for rediss:// only"),
        ("rediss://h?ssl_cert_req=none", r"no such option 'ssl_cert_req' (did you mean 'ssl_cert_reqs'?)"),
        ("rediss://h?SSL_CERTFILE=/x", "did you mean 'ssl_certfile'?"),
        ("redis://h?socket_timeout=5", "option socket_timeout is not taken here: see PODRELAY_REDIS_TIMEOUT_S"),
        ("redis://h?virtual_host=1", "see db"),
        ("redis://h?db=1&db=2", "option db is given twice"),
        ("redis://h?db=1&db=1", "option db is given twice"),
        ("rediss://h?ssl_ca_certs=", "option ssl_ca_certs has no value"),
        ("rediss://h?ssl_ca_certs", "option ssl_ca_certs has no value"),
        ("rediss://h?ssl_ca_certs=/c++.pem", "write %2B"),
        ("rediss://h?ssl_cert_reqs=maybe", "must be required, optional or none (or CERT_REQUIRED …), found 'maybe'"),
        ("rediss://h?ssl_check_hostname=2", "must be true or false"),
        (
            "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=yes",
            "ssl_check_hostname=true needs ssl_cert_reqs=required",
        ),
        ("rediss://h?ssl_keyfile=/k", "option ssl_keyfile needs ssl_certfile"),
        ("redis://h/0#main", "has a fragment: # is written %23"),
        ("redis://me:pw@h?password=pw", "the password stands before the host and in option password"),
        ("unix://run/redis.sock", "begins with a third slash"),
        ("unix://", "names no socket"),
        ("unix:///", "names no socket"),
        ("unix:///run/redis.sock/2", "unix:///run/redis.sock?db=2"),
        ("unix:///run/" + "x" * 110, "longer than 107 bytes"),
        ("unix:///run/%ff", "percent-encoded bytes that are no UTF-8"),
        ("unix:///run/a%00b", "the socket's path has a control character"),
        ("redis://:pw%0A@h", "the user or its password has a control character (such as %0A, a newline)"),
        ("rediss://h?ssl_ca_certs=/a%0Ab", "option ssl_ca_certs: a control character"),
        (" redis://h", "a space or control character (the 1th)"),
        ("redis://h\n", "a space or control character"),
        ("redis://:p w@h", "a space is written %20"),
        ("redis://:p\u00a0w@h", "a space or control character"),
        ("redis://:p\0w@h", "a space or control character"),
        ("redis://:p\udce9@h", "no text"),
        ("redis://:%ff@h", "the user or its password has percent-encoded bytes that are no UTF-8"),
        ("redis://:a%00b@h", "the user or its password has a control character"),
    ],
)
def test_what_cannot_be_used_is_told_in_words(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=re.escape(why)):
        parse_redis_url(url)


@pytest.mark.parametrize("broken", ["/", "#", "?", "/#", ":1/?", "%zz/", "\\/", "[/", "é/", " ", "\udc80", "\t", "%ff"])
@pytest.mark.parametrize("secret", ["walrus{}", "{}walrus", "wal{}walrus"])
@pytest.mark.parametrize("scheme", ["redis", "rediss", "unix", "http"])
def test_no_piece_of_a_password_is_told_however_badly_it_is_quoted(broken: str, secret: str, scheme: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as raised:
        parse_redis_url(f"{scheme}://me:{secret.format(broken)}@host:6379/x/y")
    assert "wal" not in str(raised.value)


texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1)
paths = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=50).map(
    lambda x: f"/{x}/k"
)
tls = st.builds(
    lambda verification, ca, cert, key, secret: Tls(*verification, ca, cert, cert and key, secret),
    st.sampled_from([(True, True), (True, False), (False, False)]),
    st.none() | paths,
    st.none() | paths,
    st.none() | paths,
    st.none() | texts,
)
databases = st.integers(0, 10**9 - 1)
accounts: dict[str, Any] = {"user": st.none() | texts, "password": st.none() | texts}
addresses = st.one_of(
    st.builds(
        RedisAddress,
        host=st.sampled_from(["h", "redis.example.com", "10.0.0.1", "::1", "fe80::1%eth0", "bücher.example"]),
        port=st.integers(1, 65535),
        database=databases,
        tls=st.none() | tls,
        **accounts,
    ),
    st.builds(RedisAddress, socket_path=paths, database=databases, **accounts),
)


@given(addresses)
def test_the_url_of_an_address_means_that_address(address: RedisAddress) -> None:
    assert parse_redis_url(address.url) == address


@given(addresses)
def test_what_is_shown_holds_no_secret(address: RedisAddress) -> None:
    hidden = RedisAddress(**{**{name: getattr(address, name) for name in address.__slots__}, "password": "swordfish"})
    assert "swordfish" not in hidden.shown + repr(hidden)
    assert ":***@" in hidden.shown


@given(st.text() | st.text().map(lambda x: f"redis://{x}") | st.text().map(lambda x: f"unix://{x}"))
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        address = parse_redis_url(text)
        event("it is an address")
        assert parse_redis_url(address.url) == address
