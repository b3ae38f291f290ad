"""HTTP heads: each case whole, byte by byte and with trailing bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import h11
import pytest
import trio.testing
import wsproto.events
from hypothesis import given
from hypothesis import strategies as st
from wsproto.extensions import Extension, PerMessageDeflate

from trio_stomp.transport.http import (
    HeadReader,
    HttpError,
    RequestHead,
    check_origin,
    check_upgrade,
    choose_subprotocol,
    content_type_of,
    read_head,
    resolve_static,
    response,
    upgrade_response,
)

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
LIMIT = 16 * 1024
TRAILING = b"\x81\x85abcd\r\n\r\nGET / HTTP/1.1\r\n\r\n"


def reader() -> HeadReader:
    return HeadReader(limit_bytes=LIMIT, limit_headers=100)


def whole(data: bytes) -> RequestHead | None:
    return reader().receive_data(data)


def byte_by_byte(data: bytes) -> RequestHead | None:
    incremental, head = reader(), None
    for at in range(len(data)):
        assert head is None, "the head was complete before its last byte"
        head = incremental.receive_data(data[at : at + 1])
    return head


def with_trailing_bytes(data: bytes) -> RequestHead | None:
    head = whole(data + TRAILING)
    if head is not None:
        assert head.rest == TRAILING
    return head


WAYS = (whole, byte_by_byte, with_trailing_bytes)


def parsed(data: bytes) -> RequestHead:
    """Read a head in every way, which must all give the same."""
    heads = [way(data) for way in WAYS]
    for head in heads:
        assert head is not None
    first, *others = [(h.method, h.target, h.path, h.query, h.http_version, h.headers) for h in heads if h]
    assert others == [first, first]
    assert heads[0] is not None
    return heads[0]


def refused(data: bytes) -> HttpError:
    """Read a bad head in every way, which must all refuse it alike."""
    errors = []
    for way in WAYS:
        with pytest.raises(HttpError) as caught:
            way(data)
        errors.append(caught.value)
    assert len({error.status for error in errors}) == 1
    return errors[0]


def request(
    *lines: str | bytes, first: str = "GET /ws HTTP/1.1", host: str | bytes | None = "example.com"
) -> bytes:
    """Return a head's bytes; lines are Latin-1."""
    given: list[str | bytes] = [first, *([] if host is None else [_bytes("Host: ") + _bytes(host)]), *lines]
    return b"".join(_bytes(line) + b"\r\n" for line in given) + b"\r\n"


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text


UPGRADE = (
    "Connection: keep-alive, Upgrade",
    "Upgrade: WebSocket",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)


UPGRADE_REQUEST = request(*UPGRADE, "Origin: http://example.com", "Sec-WebSocket-Protocol: v12.stomp")


def upgrade(*more: str, without: str = "-", **settings: str) -> RequestHead:
    lines = [line for line in UPGRADE if not line.startswith(without)]
    return parsed(request(*lines, *more, **settings))


class TestHead:
    def test_parts_of_a_request(self) -> None:
        head = parsed(request("X-A: 1", "Cookie:  a=b ", first="GET /a%20b/%C3%A4?q=%20 HTTP/1.1"))
        assert (head.method, head.target) == ("GET", "/a%20b/%C3%A4?q=%20")
        assert (head.path, head.query, head.http_version) == ("/a b/ä", "q=%20", "1.1")
        assert head.headers == ((b"host", b"example.com"), (b"x-a", b"1"), (b"cookie", b"a=b"))

    def test_header_is_found_in_any_case_and_joined_over_lines(self) -> None:
        head = parsed(request("X-A: 1", "x-a: 2", "X-B: \xe4"))
        assert head.header("x-a") == "1, 2"
        assert head.header("x-b") == "ä"
        assert head.header("x-c") is None
        assert head.as_dict() == {"host": "example.com", "x-a": "1, 2", "x-b": "ä"}

    def test_lines_may_end_in_a_bare_line_feed(self) -> None:
        assert parsed(b"GET / HTTP/1.1\nHost: a\n\n").path == "/"

    def test_repr_holds_no_secret(self) -> None:
        head = parsed(request("Cookie: secret", first="GET /ws?token=secret HTTP/1.1"))
        assert "secret" not in repr(head)

    @pytest.mark.parametrize(
        ("target", "path", "query"),
        [
            ("/", "/", ""),
            ("*", "*", ""),
            ("//a/b", "//a/b", ""),
            ("/a?b?c", "/a", "b?c"),
            ("http://example.com/a?b", "/a", "b"),
            ("WS://example.com", "/", ""),
            ("http://example.com?b", "/", "b"),
            ("/..%2f..%2fetc", "/../../etc", ""),
            ("/%25", "/%", ""),
            ("/a+b", "/a+b", ""),
        ],
    )
    def test_path_and_query_of_a_target(self, target: str, path: str, query: str) -> None:
        head = parsed(request(first=f"OPTIONS {target} HTTP/1.1"))
        assert (head.path, head.query) == (path, query)

    def test_http_1_0_needs_no_host(self) -> None:
        assert parsed(request(first="GET / HTTP/1.0", host=None)).http_version == "1.0"

    @pytest.mark.parametrize(
        ("data", "status"),
        [
            pytest.param(b"GET /\r\n\r\n", 400, id="http-0.9"),
            pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, id="http-2-preface"),
            pytest.param(request(first="GET / HTTP/2.0"), 505, id="http-2.0"),
            pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, id="tls"),
            pytest.param(b"CONNECT\naccept-version:1.2\n\n\0", 400, id="raw-stomp"),
            pytest.param(b"\r\n\r\n", 400, id="empty-lines"),
            pytest.param(b"\0\0\0\0", 400, id="nuls"),
            pytest.param(request(first="GET  / HTTP/1.1"), 400, id="two-spaces"),
            pytest.param(request(first="GET /\xe4 HTTP/1.1"), 400, id="target-not-ascii"),
            pytest.param(request(first="GET / HTTP/1.1 "), 400, id="space-after-version"),
            pytest.param(request(first="G(T / HTTP/1.1"), 400, id="method-no-token"),
            pytest.param(request(first="GET /%ff HTTP/1.1"), 400, id="path-not-utf8"),
            pytest.param(request(first="GET /%00 HTTP/1.1"), 400, id="path-nul"),
            pytest.param(request("no colon"), 400, id="no-colon"),
            pytest.param(request("space : x"), 400, id="space-before-colon"),
            pytest.param(request(": x"), 400, id="no-name"),
            pytest.param(request("X\xe4: x"), 400, id="name-not-ascii"),
            pytest.param(request("X: a\0b"), 400, id="nul-in-value"),
            pytest.param(request("X: a\rb"), 400, id="bare-cr-in-value"),
            pytest.param(request("X: a", " folded"), 400, id="folded"),
            pytest.param(request("X: a", "\tfolded"), 400, id="folded-by-tab"),
            pytest.param(request("Content-Length: x"), 400, id="content-length"),
            pytest.param(request("Content-Length: 1", "Content-Length: 2"), 400, id="content-lengths"),
            pytest.param(request("Transfer-Encoding: gzip"), 501, id="transfer-encoding"),
            pytest.param(request(host=None), 400, id="no-host"),
            pytest.param(request("Host: b"), 400, id="two-hosts"),
        ],
    )
    def test_bad_head_is_refused(self, data: bytes, status: int) -> None:
        assert refused(data).status == status

    @pytest.mark.parametrize(
        "name",
        [
            "Connection",
            "Upgrade",
            "Origin",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Version",
            "Sec-WebSocket-Protocol",
            "Sec-WebSocket-Extensions",
        ],
    )
    def test_value_that_is_not_ascii_is_refused_where_the_handshake_has_it(self, name: str) -> None:
        error = refused(request(f"{name}: \xff"))
        assert error.status == 400
        assert name.lower() in error.reason

    def test_value_that_is_not_ascii_passes_elsewhere(self) -> None:
        assert parsed(request("Cookie: \xff")).header("cookie") == "\xff"

    @pytest.mark.parametrize(
        "host",
        [
            "example.com",
            "example.com.",
            "example.com:8080",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8080",
            "a_b-c.d~e",
            "xn--bcher-kva.example",
            "xn--bcher-kva:8080",
            f"{'a' * 63}.example",
        ],
    )
    def test_host_is_accepted(self, host: str) -> None:
        assert parsed(request(host=host)).header("host") == host

    @pytest.mark.parametrize(
        "host",
        [
            "",
            "xn--0",
            b"\xff",
            f"xn--{'a' * 66}",
            f"{'a' * 64}.example",
            "xn--a-0",
            "xn--a-0:8080",
            "a b",
            "a/b",
            "user@a",
            "a,b",
            "a:",
            "a:x",
            "a:123456",
            "[::1",
            "[x]",
            "::1",
            "http://a",
        ],
    )
    def test_host_is_refused(self, host: str | bytes) -> None:
        error = refused(request(host=host))
        assert error.status == 400

    @given(host=st.text(st.sampled_from("xn-0aé.:[]\xff"), max_size=80))
    def test_any_host_is_read_or_refused(self, host: str) -> None:
        with contextlib.suppress(HttpError):
            assert whole(request(*UPGRADE, host=host)) is not None


class TestAnyBytes:
    @given(
        data=st.binary(max_size=200)
        | st.builds(
            lambda at, byte: UPGRADE_REQUEST[:at] + byte + UPGRADE_REQUEST[at + 1 :],
            st.integers(0, 200),
            st.binary(max_size=2),
        )
    )
    def test_any_bytes_are_read_or_refused_and_what_is_accepted_is_answered(self, data: bytes) -> None:
        try:
            head = whole(data)
            if head is None:
                return
            check_upgrade(head)
            check_origin(head, [])
        except HttpError:
            return
        assert upgrade_response(head, choose_subprotocol(head)).startswith(b"HTTP/1.1 101 ")

    @given(cuts=st.lists(st.integers(0, 200)))
    def test_any_chunking_gives_the_same(self, cuts: list[int]) -> None:
        ends = [*sorted(min(cut, len(UPGRADE_REQUEST)) for cut in cuts), len(UPGRADE_REQUEST)]
        incremental, head, start = reader(), None, 0
        for end in ends:
            if head is None:
                head = incremental.receive_data(UPGRADE_REQUEST[start:end])
            start = end
        assert head == whole(UPGRADE_REQUEST)


class TestLimits:
    def test_head_of_exactly_the_limit_is_read(self) -> None:
        size = len(request("X: "))
        longest = request("X: " + "a" * (LIMIT - size))
        assert len(longest) == LIMIT
        parsed(longest)

    def test_head_over_the_limit_in_one_read_is_refused(self) -> None:
        size = len(request("X: "))
        assert refused(request("X: " + "a" * (LIMIT - size + 1))).status == 431

    def test_head_of_50_kb_in_one_read_is_refused(self) -> None:
        assert refused(request("X: " + "a" * 50_000)).status == 431

    def test_line_without_end_is_refused_at_the_limit(self) -> None:
        for way in (whole, byte_by_byte):
            with pytest.raises(HttpError, match="431"):
                way(b"G" * (LIMIT + 1))

    def test_bytes_behind_the_head_do_not_count(self) -> None:
        head = whole(request() + b"x" * 100_000)
        assert head is not None
        assert len(head.rest) == 100_000

    def test_header_count_is_limited(self) -> None:
        assert len(parsed(request(*["X: a"] * 99)).headers) == 100
        error = refused(request(*["X: a"] * 100))
        assert (error.status, "101 headers" in error.reason) == (431, True)

    def test_two_empty_lines_do_not_end_a_head_early(self) -> None:
        head = whole(request() + b"\r\n")
        assert head is not None
        assert head.rest == b"\r\n"


class TestReadHead:
    async def test_head_comes_from_a_stream_in_pieces(self) -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        data = request()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                await theirs.send_all(data[:20])
                await trio.testing.wait_all_tasks_blocked()
                await theirs.send_all(data[20:] + b"rest")

            head = await read_head(ours)
        assert head is not None
        assert (head.target, head.rest) == ("/ws", b"rest")

    async def test_peer_that_leaves_without_a_word_gives_none(self) -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_eof()
        assert await read_head(ours) is None

    async def test_peer_that_leaves_within_the_head_is_an_error(self) -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(b"GET / HT")
        await theirs.send_eof()
        with pytest.raises(HttpError, match="400 Bad Request: the connection ended"):
            await read_head(ours)

    async def test_limits_are_the_callers(self) -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        await theirs.send_all(request("X: " + "a" * 300))
        with pytest.raises(HttpError, match="over 256 bytes"):
            await read_head(ours, limit_bytes=256)


class TestUpgrade:
    def test_browsers_handshake_passes(self) -> None:
        check_upgrade(
            upgrade(
                *("Origin: http://example.com", "Sec-WebSocket-Extensions: permessage-deflate"),
                "Content-Length: 0",
            )
        )

    @pytest.mark.parametrize(
        ("without", "more", "status"),
        [
            ("Connection", [], 426),
            ("Connection", ["Connection: keep-alive"], 426),
            ("Connection", ["Connection: upgraded"], 426),
            ("Upgrade", [], 426),
            ("Upgrade", ["Upgrade: h2c"], 426),
            ("Upgrade", ["Upgrade: websocket, h2c"], 426),
            ("-", ["Upgrade: websocket"], 426),
            ("Sec-WebSocket-Version", [], 426),
            ("Sec-WebSocket-Version", ["Sec-WebSocket-Version: 8"], 426),
            ("-", ["Sec-WebSocket-Version: 13"], 426),
            ("Sec-WebSocket-Key", [], 400),
            ("Sec-WebSocket-Key", ["Sec-WebSocket-Key: "], 400),
            ("Sec-WebSocket-Key", ["Sec-WebSocket-Key: AAAA"], 400),
            ("Sec-WebSocket-Key", ["Sec-WebSocket-Key: !GhlIHNhbXBsZSBub25jZQ=="], 400),
            ("-", [f"Sec-WebSocket-Key: {KEY}"], 400),
            ("-", ["Content-Length: 5"], 400),
            ("-", ["Transfer-Encoding: chunked"], 400),
        ],
    )
    def test_bad_handshake_is_refused(self, without: str, more: Sequence[str], status: int) -> None:
        with pytest.raises(HttpError) as caught:
            check_upgrade(upgrade(*more, without=without))
        assert caught.value.status == status
        assert (status != 426) or ("Upgrade", "websocket") in caught.value.headers

    @pytest.mark.parametrize("values", [("keep-alive", "Upgrade"), ("Upgrade", "keep-alive")])
    def test_connection_over_two_lines_passes(self, values: Sequence[str]) -> None:
        check_upgrade(upgrade(*(f"Connection: {value}" for value in values), without="Connection"))

    @pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
    def test_other_method_is_refused_with_allow(self, method: str) -> None:
        with pytest.raises(HttpError) as caught:
            check_upgrade(upgrade(first=f"{method} /ws HTTP/1.1"))
        assert (caught.value.status, caught.value.headers) == (405, [("Allow", "GET")])

    def test_http_1_0_is_refused(self) -> None:
        with pytest.raises(HttpError, match="400 Bad Request"):
            check_upgrade(upgrade(first="GET /ws HTTP/1.0"))

    def test_old_protocol_is_told_the_version(self) -> None:
        with pytest.raises(HttpError) as caught:
            check_upgrade(upgrade("Sec-WebSocket-Version: 8", without="Sec-WebSocket-Version"))
        assert ("Sec-WebSocket-Version", "13") in caught.value.headers

    def test_the_answer_is_the_one_of_rfc_6455(self) -> None:
        assert upgrade_response(upgrade(), "v12.stomp").splitlines() == [
            b"HTTP/1.1 101 Switching Protocols",
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            b"Sec-WebSocket-Protocol: v12.stomp",
            b"",
        ]

    @pytest.mark.parametrize("offered", [[], ["soap"], ["v10.stomp", "v11.stomp"]])
    def test_a_client_of_wsproto_and_we_agree(self, offered: list[str]) -> None:
        client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        extensions: list[Extension] = [PerMessageDeflate()]
        ask = wsproto.events.Request(host="a", target="/", subprotocols=offered, extensions=extensions)
        head = parsed(client.send(ask))
        check_upgrade(head)
        client.receive_data(upgrade_response(head, choose_subprotocol(head)) + b"\x82\x01a")
        accepted, message = client.events()
        assert isinstance(accepted, wsproto.events.AcceptConnection)
        assert (accepted.subprotocol, accepted.extensions) == (offered[-1] if len(offered) > 1 else None, [])
        assert message == wsproto.events.BytesMessage(data=bytearray(b"a"))


class TestOrigin:
    @pytest.mark.parametrize(
        ("host", "origin", "listed"),
        [
            ("example.com", None, []),
            ("example.com", "http://example.com", []),
            ("example.com", "https://example.com", []),
            ("EXAMPLE.com:80", "http://example.COM", []),
            ("example.com", "https://example.com:443", []),
            ("example.com:8080", "http://example.com:8080", []),
            ("[::1]:8080", "http://[::1]:8080", []),
            ("a", "https://b", ["https://b"]),
            ("a", "https://b", ["HTTPS://B:443/"]),
            ("a", "https://b:8443", ["https://x", "https://b:8443"]),
            ("a", "null", ["null"]),
            ("a", "chrome-extension://abc", ["chrome-extension://abc"]),
            ("a", "https://anything", ["*"]),
            ("a", "null", ["*"]),
        ],
    )
    def test_origin_passes(self, host: str, origin: str | None, listed: Sequence[str]) -> None:
        more = [] if origin is None else [f"Origin: {origin}"]
        check_origin(upgrade(*more, host=host), listed)

    @pytest.mark.parametrize(
        ("host", "origin", "listed"),
        [
            ("example.com", "http://evil.com", []),
            ("example.com", "http://example.com.evil.com", []),
            ("example.com", "http://example.com@evil.com", []),
            ("example.com", "http://example.com:8080", []),
            ("example.com:443", "http://example.com", []),
            ("example.com", "http://sub.example.com", ["http://example.com"]),
            ("a", "http://b", ["https://b"]),
            ("a", "https://b:8443", ["https://b"]),
            ("a", "null", []),
            ("null", "null", []),
            ("a", "", []),
            ("a", "file://a", []),
            ("a", "http://a/path", []),
        ],
    )
    def test_origin_is_refused(self, host: str, origin: str, listed: Sequence[str]) -> None:
        with pytest.raises(HttpError, match="403 Forbidden"):
            check_origin(upgrade(f"Origin: {origin}", host=host), listed)

    def test_two_origins_are_refused(self) -> None:
        head = upgrade("Origin: http://example.com", "Origin: http://example.com")
        with pytest.raises(HttpError, match="403"):
            check_origin(head, ["http://example.com"])


class TestSubprotocol:
    @pytest.mark.parametrize(
        ("lines", "chosen"),
        [
            ([], None),
            (["v12.stomp"], "v12.stomp"),
            (["v10.stomp, v11.stomp, v12.stomp"], "v12.stomp"),
            (["v10.stomp,v11.stomp"], "v11.stomp"),
            (["v10.stomp"], "v10.stomp"),
            (["mqtt", "v10.stomp", "v11.stomp"], "v11.stomp"),
            (["mqtt"], None),
            (["V12.STOMP"], None),
            ([""], None),
        ],
    )
    def test_highest_version_offered_is_chosen(self, lines: Sequence[str], chosen: str | None) -> None:
        assert choose_subprotocol(upgrade(*(f"Sec-WebSocket-Protocol: {line}" for line in lines))) == chosen


def received(data: bytes, *, method: str = "GET") -> tuple[h11.Response, bytes]:
    """Read a response as a client would."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.receive_data(data)
    client.receive_data(b"")
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    return head, body


class TestResponse:
    def test_response_is_what_a_client_reads(self) -> None:
        head, body = received(response(404, "nöt here\n", headers=[("X-A", "b")]))
        assert (head.status_code, head.reason) == (404, b"Not Found")
        assert dict(head.headers) == {
            b"content-type": b"text/plain; charset=utf-8",
            b"content-length": b"10",
            b"x-content-type-options": b"nosniff",
            b"x-a": b"b",
            b"connection": b"close",
        }
        assert body.decode() == "nöt here\n"

    def test_bytes_stay_as_they_are(self) -> None:
        head, body = received(response(200, b"\xff\0", content_type="application/octet-stream"))
        assert (dict(head.headers)[b"content-type"], body) == (b"application/octet-stream", b"\xff\0")

    def test_answer_to_head_has_the_length_and_no_body(self) -> None:
        head, body = received(response(200, b"abc", is_head=True), method="HEAD")
        assert (dict(head.headers)[b"content-length"], body) == (b"3", b"")

    def test_header_cannot_be_smuggled_in(self) -> None:
        with pytest.raises(ValueError, match="X-A"):
            response(200, headers=[("X-A", "b\r\nSet-Cookie: c")])

    def test_error_answers_for_itself(self) -> None:
        head, body = received(HttpError(405, "expected GET", [("Allow", "GET")]).response())
        assert (head.status_code, dict(head.headers)[b"allow"], body) == (405, b"GET", b"expected GET\n")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Files to serve, and a secret beside them."""
    for name in (
        "page/index.html",
        "page/app.js",
        "page/sub/index.html",
        "page/.env",
        "lib/stomp.js",
        "secret",
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    (tmp_path / "page/empty").mkdir()
    (tmp_path / "page/out").symlink_to(tmp_path / "secret")
    (tmp_path / "page/up").symlink_to(tmp_path)
    (tmp_path / "page/in.js").symlink_to(tmp_path / "page/app.js")
    (tmp_path / "page/loop").symlink_to(tmp_path / "page/loop")
    return tmp_path


class TestStatic:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/", "page/index.html"),
            ("/index.html", "page/index.html"),
            ("/app.js", "page/app.js"),
            ("/in.js", "page/app.js"),
            ("/sub", "page/sub/index.html"),
            ("/sub/", "page/sub/index.html"),
            ("/lib/stomp.js", "lib/stomp.js"),
            ("/one.js", "lib/stomp.js"),
        ],
    )
    def test_file_is_found(self, site: Path, path: str, name: str) -> None:
        static = {"/": str(site / "page"), "/lib/": str(site / "lib"), "/one.js": str(site / "lib/stomp.js")}
        assert resolve_static(static, path) == site / name

    @pytest.mark.parametrize(
        "path",
        [
            "/none",
            "/../secret",
            "/sub/../../secret",
            "/..\\secret",
            "//secret",
            "/./app.js",
            "/out",
            "/up/secret",
            "/loop",
            "/.env",
            "/empty",
            "/app.js/",
            "/sub//index.html",
            "/" + "a" * 5000,
            "/a\0b",
            "/c:secret",
            "/lib",
            "/lib/none.js",
            "/lib/index.html",
            "/library/app.js",
            "*",
            "app.js",
            "",
        ],
    )
    def test_nothing_is_found(self, site: Path, path: str) -> None:
        assert resolve_static({"/": str(site / "page"), "/lib": str(site / "lib")}, path) is None

    def test_without_static_there_is_nothing(self) -> None:
        assert resolve_static({}, "/") is None

    def test_directory_that_does_not_exist_serves_nothing(self, tmp_path: Path) -> None:
        assert resolve_static({"/": str(tmp_path / "none")}, "/index.html") is None

    @given(path=st.text(st.sampled_from("./\\ab%\0:~"), max_size=30))
    def test_no_path_leads_out(self, path: str) -> None:
        here = Path(__file__).parent
        found = resolve_static({"/": str(here)}, f"/{path}")
        assert found is None or found.is_relative_to(here)

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("index.html", "text/html; charset=utf-8"),
            ("app.css", "text/css; charset=utf-8"),
            ("data.json", "application/json; charset=utf-8"),
            ("a.png", "image/png"),
            ("a.js.gz", "application/octet-stream"),
            ("unknown.zzz", "application/octet-stream"),
        ],
    )
    def test_content_type_is_by_the_name(self, name: str, expected: str) -> None:
        assert content_type_of(Path(name)) == expected

    def test_scripts_are_javascript(self) -> None:
        assert content_type_of(Path("a.js")).partition(";")[0] in (
            "text/javascript",
            "application/javascript",
        )
        assert content_type_of(Path("a.mjs")).endswith("javascript; charset=utf-8")
