"""The chat example in headless Chromium: the real @stomp/stompjs, two pages, the real server.

The screenshots are kept in build/screenshots/ to be looked at.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from network.support import PATIENCE, ROOT, ServerProgram, node_modules, program_path, run_command, serving

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect

PAGE = ROOT / "examples" / "chat" / "page"
SCREENSHOTS = ROOT / "build" / "screenshots"
STATIC = "/=examples/chat/page,/stompjs=node_modules/@stomp/stompjs/bundles"
DESKTOP = {"width": 1200, "height": 800}
PHONE = {"width": 390, "height": 844}
FLAGS = [
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProgram]:
    node_modules()
    with serving("examples.chat.app:app", "--static", STATIC) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = program_path("chromium")
    with sync_api.sync_playwright() as playwright:
        # Playwright gives it a fresh --user-data-dir and removes it at the end.
        browser = playwright.chromium.launch(executable_path=executable, args=FLAGS, timeout=PATIENCE * 1000)
        yield browser
        browser.close()


class Window:
    """One person's window: what is done in it, and what is seen."""

    def __init__(self, browser: Any, server: ServerProgram, nickname: str, size: dict[str, int]) -> None:
        self.complaints: list[str] = []
        self.nickname = nickname
        self.context = browser.new_context(viewport=size)
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page = self.context.new_page()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._listen)
        self.page.goto(f"{server.http_url}/")

    def join(self, room: str) -> Window:
        """Fill in the form and wait for the connection."""
        self.page.get_by_label("Nickname").fill(self.nickname)
        self.page.get_by_label("Room").fill(room)
        self.page.get_by_role("button", name="Join").click()
        expect(self.page.get_by_role("status")).to_have_text("connected", timeout=PATIENCE * 1000)
        return self

    def say(self, text: str) -> None:
        self.page.get_by_label("Message", exact=True).fill(text)
        self.page.get_by_label("Message", exact=True).press("Enter")

    def sees(self, *texts: str) -> None:
        """The messages in the log are these, each once, in this order."""
        log = self.page.get_by_role("log", name="Messages")
        expect(log.locator(".message > p")).to_have_text(list(texts), timeout=PATIENCE * 1000)

    def screenshot(self, name: str) -> None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / name)

    def _listen(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)


class Windows:
    """Opens windows; closes them at the end and looks for what the browser complained about."""

    def __init__(self, browser: Any, server: ServerProgram) -> None:
        self._browser = browser
        self._server = server
        self._open: list[Window] = []

    def __call__(
        self, nickname: str, size: dict[str, int] | None = None, server: ServerProgram | None = None
    ) -> Window:
        window = Window(self._browser, server or self._server, nickname, size or DESKTOP)
        self._open.append(window)
        return window

    def close(self) -> list[str]:
        for window in self._open:
            window.context.close()
        return [complaint for window in self._open for complaint in window.complaints]


@pytest.fixture
def windows(browser: Any, server: ServerProgram) -> Iterator[Windows]:
    windows = Windows(browser, server)
    yield windows
    assert windows.close() == []


def test_two_pages_chat_in_a_room_and_not_in_another(windows: Windows) -> None:
    ada, bob, eve = windows("ada").join("lobby"), windows("bob").join("lobby"), windows("eve").join("attic")
    ada.say("hello, bob")
    bob.sees("hello, bob")
    bob.say("hello, ada")
    ada.sees("hello, bob", "hello, ada")
    eve.say("anybody here?")
    eve.sees("anybody here?")
    names = bob.page.get_by_role("log").locator(".name")
    expect(names).to_have_text(["ada", "bob"])


def test_who_joins_sees_the_last_fifty_messages_once_and_then_what_is_said(
    windows: Windows, server: ServerProgram
) -> None:
    ada = windows("ada").join("history")
    for number in range(1, 61):
        ada.say(f"message {number}")
    ada.sees(*(f"message {number}" for number in range(1, 61)))
    bob = windows("bob").join("history")
    bob.sees(*(f"message {number}" for number in range(11, 61)))
    ada.say("live")
    bob.sees(*(f"message {number}" for number in range(11, 61)), "live")
    log = bob.page.get_by_role("log")
    assert log.evaluate("log => log.scrollHeight - log.scrollTop - log.clientHeight") < 5
    assert (
        run_command(
            "send", server.url, "/app/chat/history", '{"text": "from a shell"}', "--login", "sh"
        ).returncode
        == 0
    )
    expect(log.locator(".message > p").last).to_have_text("from a shell")


def test_the_slow_service_answers_only_who_asked_and_chatting_goes_on(windows: Windows) -> None:
    ada, other_ada = windows("ada").join("weather"), windows("ada").join("weather")
    ada.page.get_by_label("Place").fill("Lisbon")
    ada.page.get_by_role("button", name="Ask the weather").click()
    answer = ada.page.get_by_role("list", name="Weather").get_by_role("listitem")
    expect(answer).to_contain_text("asking")
    ada.say("while it is asked")
    other_ada.sees("while it is asked")
    expect(answer).to_contain_text("asking")  # a session's later messages do not wait for it
    expect(answer).to_have_text(re.compile(r"Lisbon.*, after \d\.\d s"))
    expect(other_ada.page.get_by_role("list", name="Weather").get_by_role("listitem")).to_have_count(0)


def test_a_refused_payloads_error_is_shown(windows: Windows) -> None:
    ada = windows("ada").join("refused")
    ada.page.get_by_role("button", name="Send an invalid message").click()
    notice = ada.page.get_by_role("alert").filter(has_text="required field missing")
    expect(notice).to_contain_text("required field missing @ $.text")
    expect(notice).to_contain_text("/app/chat/refused")
    ada.say("the session goes on")
    ada.sees("the session goes on")
    ada.page.get_by_role("button", name="Dismiss").click()
    expect(notice).to_be_hidden()


def test_text_that_looks_like_html_is_shown_as_text(windows: Windows) -> None:
    ada, bob = windows("<b>ada</b>").join("html"), windows("bob").join("html")
    evil = "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script>"
    ada.say(evil)
    bob.sees(evil)
    expect(bob.page.get_by_role("log").locator(".name")).to_have_text(["<b>ada</b>"])
    assert bob.page.get_by_role("log").locator("img, script, b").count() == 0
    assert bob.page.title() == "#html - trio-stomp chat"


def test_a_refused_nickname_leads_back_to_the_form_with_the_reason(windows: Windows) -> None:
    nobody = windows("n" * 24)
    # The form allows 24 UTF-16 units, as the server does characters: go round it.
    nobody.page.get_by_label("Nickname").evaluate("field => field.removeAttribute('maxlength')")
    nobody.page.get_by_label("Nickname").fill("n" * 25)
    nobody.page.get_by_role("button", name="Join").click()
    expect(nobody.page.get_by_role("alert").filter(has_text="nickname")).to_contain_text("1 to 24 characters")
    expect(nobody.page.get_by_role("button", name="Join")).to_be_visible()


def test_the_page_comes_back_when_the_server_does(browser: Any) -> None:
    with serving("examples.chat.app:app", "--static", STATIC) as first:
        window = Window(browser, first, "ada", DESKTOP).join("again")
        window.say("before")
        window.sees("before")
        port = first.port
    expect(window.page.get_by_role("status")).to_have_text(re.compile("connecting"))
    expect(window.page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
    with serving("examples.chat.app:app", "--static", STATIC, port=port):
        expect(window.page.get_by_role("status")).to_have_text("connected", timeout=PATIENCE * 1000)
        window.sees()  # the new server has no history
        window.say("after")
        window.sees("after")
        window.context.close()


@pytest.mark.parametrize(("name", "size"), [("desktop", DESKTOP), ("phone", PHONE)])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_window(windows: Windows, name: str, size: dict[str, int], scheme: str) -> None:
    room = f"screens-{name}-{scheme}"
    ada, bob = windows("ada", size), windows("bob", size)
    ada.page.emulate_media(color_scheme=scheme)
    ada.screenshot(f"{name}-{scheme}-join.png")
    ada.join(room)
    bob.join(room)
    bob.say("Good morning! Has anybody tried the new broker?")
    ada.say("Yes. Two windows, one room: what I type here is there at once.")
    bob.say("And a very long word: " + "trio" * 40)
    ada.say("grüße")
    if name == "phone":
        ada.page.get_by_text("Things to try").click()
    ada.page.get_by_label("Place").fill("Lisbon")
    ada.page.get_by_role("button", name="Ask the weather").click()
    expect(ada.page.get_by_role("list", name="Weather")).to_contain_text("after")
    ada.page.get_by_label("Place").fill("Reykjavík")
    ada.page.get_by_role("button", name="Ask the weather").click()
    ada.page.get_by_role("button", name="Send an invalid message").click()
    expect(ada.page.get_by_text("required field missing")).to_be_visible()
    last = ada.page.get_by_role("log").locator(".message").last
    expect(last).to_be_in_viewport()  # although opening and the notice take room from the log
    ada.screenshot(f"{name}-{scheme}.png")
    width = ada.page.evaluate("document.documentElement.scrollWidth")
    assert width <= size["width"]
    if name == "phone":
        ada.page.get_by_text("Things to try").click()
        ada.screenshot(f"{name}-{scheme}-folded.png")
    expect(ada.page.get_by_label("Message", exact=True)).to_be_in_viewport()


def test_without_node_modules_the_page_asks_the_cdn_for_the_same_file(browser: Any) -> None:
    library = node_modules() / "@stomp" / "stompjs" / "bundles" / "stomp.umd.min.js"
    asked: list[str] = []

    def answer(route: Any) -> None:
        asked.append(route.request.url)
        # As the CDN does; without its CORS header the browser does not check the file's hash, but refuses it.
        headers = {"access-control-allow-origin": "*", "content-type": "text/javascript"}
        route.fulfill(path=library, headers=headers)

    with serving("examples.chat.app:app", "--static", "/=examples/chat/page") as server:
        context = browser.new_context()
        context.route("https://cdn.jsdelivr.net/**", answer)
        page = context.new_page()
        page.goto(f"{server.http_url}/")
        page.get_by_label("Nickname").fill("ada")
        page.get_by_role("button", name="Join").click()
        expect(page.get_by_role("status")).to_have_text("connected", timeout=PATIENCE * 1000)
        context.close()
    assert len(asked) == 1


def test_the_cdns_version_and_hash_are_those_of_package_json() -> None:
    script = (PAGE / "chat.js").read_text()
    library = node_modules() / "@stomp" / "stompjs" / "bundles" / "stomp.umd.min.js"
    version = json.loads((ROOT / "package.json").read_text())["devDependencies"]["@stomp/stompjs"]
    digest = base64.b64encode(hashlib.sha384(library.read_bytes()).digest()).decode()
    assert f"https://cdn.jsdelivr.net/npm/@stomp/stompjs@{version}/bundles/stomp.umd.min.js" in script
    assert f'integrity: "sha384-{digest}"' in script


def test_the_page_never_writes_html() -> None:
    text = "".join(file.read_text() for file in Path(PAGE).iterdir())
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|javascript:|\son\w+=", text
    )
