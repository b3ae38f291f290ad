"""The HTML page: it is whole, loads nothing, and shows nothing as markup that came from the report."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import attrs
import pytest
from stress_values import NOTHING, Service, a_report, a_run

from trio_stomp.stress.page import report_page
from trio_stomp.stress.results import Report, Run

VOID = frozenset({"meta", "link", "img", "br", "hr", "input", "source", "area", "base", "col", "embed"})
LOADING = frozenset(
    {"src", "srcset", "href", "xlink:href", "poster", "data", "action", "style", "background"}
)


class Page(HTMLParser):
    """Every element must be closed where it was opened; keeps what was read."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.declaration = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_decl(self, decl: str) -> None:
        self.declaration = decl

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names))
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def all_text(self) -> str:
        return " ".join(part for tag, parts in self.text.items() if tag != "style" for part in parts)


def a_sweep(rate: float = 700.0) -> Report:
    service = Service(12, noise=0.0)
    return a_report([service.run(threads, rate) for threads in (4, 8, 16)], goal="p99<250ms")


def a_ramp() -> Report:
    service = Service(12, noise=0.0)
    runs = [attrs.evolve(service.run(12, rate), pool=None, threads=None) for rate in (200.0, 400.0, 800.0)]
    return a_report(runs, kind="ramp", goal="p99<250ms")


def nothing(**changes: Any) -> Run:
    none: dict[str, Any] = {"corrected": NOTHING, "raw": NOTHING, "split": None, "server": None}
    return a_run(**{"sent": 0, "answered": 0, "achieved": 0.0, **none, **changes})


EVIL = "<script>alert(1)</script>\"'&\x00\x1b[31m"

REPORTS = {
    "sweep": a_sweep(),
    "sweep that meets its target": a_sweep(rate=500.0),
    "ramp": a_ramp(),
    "run": a_report([a_run(timeline=Service(12).run(12, 300.0).timeline)], kind="run"),
    "nothing answered": a_report([nothing()], kind="run", goal="p99<250ms"),
    "nothing known in a sweep": a_report([nothing(threads=4, pool="a"), nothing(threads=8, pool="a")]),
    "nothing known in a ramp": a_report([nothing(rate=1.0), nothing(rate=2.0)], kind="ramp"),
    "no runs": a_report([], kind="run"),
    "no steps": a_report([], kind="ramp"),
    "evil": a_report(
        [a_run(threads, label=EVIL, pool=EVIL, failures=((EVIL, 3),), lost=3) for threads in (4, 8)],
        **dict.fromkeys(("version", "started", "command", "machine", "target", "destination", "reply"), EVIL),
    ),
}


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())
def test_page_is_whole_and_has_what_html_asks_for(report: Report) -> None:
    page = Page(report_page(report))
    assert page.declaration == "DOCTYPE html"
    assert ("html", {"lang": "en"}) in page.tags
    assert ("meta", {"charset": "utf-8"}) in page.tags
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    assert [tag for tag, _ in page.tags].count("h1") == 1
    assert page.text["title"][0].strip()
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())
def test_page_loads_nothing_and_runs_nothing(report: Report) -> None:
    text = report_page(report)
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in (
            "script",
            "link",
            "img",
            "iframe",
            "object",
            "embed",
            "image",
            "use",
            "base",
            "form",
        )
        assert not LOADING & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    style = "".join(page.text["style"])
    assert not re.search(r"url\(|@import|@font-face|expression", style)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS.keys())
def test_every_chart_has_a_title_and_a_description(report: Report) -> None:
    text = report_page(report)
    charts = re.findall(r"<svg .*?</svg>", text, re.DOTALL)
    assert len(charts) == text.count("<svg")
    for chart in charts:
        assert re.match(
            r'<svg class="plot" viewBox="0 0 \d+ \d+" role="img"><title>[^<]+</title><desc>', chart
        )
        assert "nan" not in chart


def test_page_shows_what_came_from_the_report_as_text_without_controls() -> None:
    text = report_page(REPORTS["evil"])
    assert "<script" not in text
    assert "\x00" not in text
    assert "\x1b" not in text
    shown = Page(text).all_text()
    assert "<script>alert(1)</script>\"'&\\x00\\x1b[31m" in shown
    assert "3 times" in shown or "6 times" in shown


def test_same_report_gives_the_same_page() -> None:
    assert report_page(a_sweep()) == report_page(a_sweep())


def test_sweep_opens_with_the_recommendation_and_the_lines_to_paste() -> None:
    page = Page(report_page(a_sweep()))
    assert page.text["h1"] == ["16 threads for payments"]
    assert page.text["title"][0] == "16 threads for payments - trio-stomp stress"
    assert "[pools.payments]\nthreads = 16" in page.all_text()
    assert "misses p99<250ms" in page.all_text()
    assert "With 16 threads" in page.text["h2"]


def test_target_that_is_met_is_said() -> None:
    assert "meets p99<250ms" in Page(report_page(a_sweep(rate=500.0))).all_text()
    report = a_report([a_run(1), a_run(2)])
    page = Page(report_page(report))
    assert page.text["h1"] == ["1 thread for payments"]
    assert not any("badge" in str(attributes) for _, attributes in page.tags)
    run = a_report([a_run()], kind="run", goal="p99<1ms")
    assert "misses p99<1ms" in Page(report_page(run)).all_text()


@pytest.mark.parametrize(
    ("report", "headline"),
    [
        (REPORTS["ramp"], "400/s holds, 800/s does not"),
        (a_report([a_run(rate=100.0)], kind="ramp"), "100/s holds"),
        (REPORTS["nothing known in a ramp"], "Not even the lowest rate holds"),
        (a_report([a_run(rate=600.0, achieved=598.0)], kind="run"), "600/s offered, 598/s answered"),
        (REPORTS["nothing answered"], "Nothing was answered"),
        (REPORTS["nothing known in a sweep"], "Nothing was answered"),
    ],
)
def test_headline_is_the_result(report: Report, headline: str) -> None:
    assert Page(report_page(report)).text["h1"] == [headline]


def test_sections_in_order() -> None:
    headings = Page(report_page(a_sweep())).text["h2"]
    assert headings == [
        *("With 16 threads", "Read the numbers with care", "Throughput and latency by pool size"),
        *("Latency over time", "Where the time went", "All numbers", "The split in numbers", "Errors"),
        "How it was measured",
    ]


def test_what_there_is_nothing_of_is_left_out() -> None:
    report = attrs.evolve(a_report([nothing()], kind="run"), warnings=())
    assert Page(report_page(report)).text["h2"] == ["Result", "All numbers", "How it was measured"]


def test_figures_are_those_of_the_run_that_the_result_rests_on() -> None:
    page = Page(report_page(a_ramp()))
    assert "At 400/s" in page.text["h2"]
    values = dict(zip(page.text["dt"], page.text["dd"], strict=False))
    assert values["Achieved"] == "400/s"
    assert values["Failed"] == "0 %"
    assert values["Threads busy"] == "8.00"
    sweep = Page(report_page(a_sweep()))
    assert dict(zip(sweep.text["dt"], sweep.text["dd"], strict=False))["Threads busy"].endswith(" of 16")


def test_charts_are_drawn_for_desktop_and_phone() -> None:
    page = report_page(a_sweep())
    wide = re.findall(r'<div class="wide"><svg class="plot" viewBox="0 0 (\d+) ', page)
    narrow = re.findall(r'<div class="narrow"><svg class="plot" viewBox="0 0 (\d+) ', page)
    assert (set(wide), set(narrow)) == ({"1040"}, {"336"})
    assert len(wide) == len(narrow) == 2


def test_tables_have_scopes_scroll_in_their_own_box_and_mark_the_row() -> None:
    page = Page(report_page(a_sweep()))
    scopes = [attributes.get("scope") for tag, attributes in page.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}
    boxes = [attributes for _, attributes in page.tags if attributes.get("class") == "scroll"]
    assert [(box["role"], box["tabindex"]) for box in boxes] == [("region", "0")] * 2
    assert [attributes for tag, attributes in page.tags if tag == "tr"].count({"class": "chosen"}) == 2


def test_page_is_light_or_dark_as_the_reader_wishes() -> None:
    text = report_page(a_sweep())
    assert text.count("prefers-color-scheme") == 2
    assert "color-scheme: light dark" in text
