"""``--target`` and ``--fail-if``: what is said of a run, and whether it is true."""

from __future__ import annotations

import re

import pytest
from stress_values import NOTHING, a_latency, a_run, a_server

from trio_stomp.errors import ConfigError
from trio_stomp.stress.criteria import (
    MEASURES,
    Criterion,
    failures,
    holds,
    meets,
    misses,
    parse_criteria,
    shown,
    value_of,
)
from trio_stomp.stress.results import Run


def one(text: str) -> Criterion:
    (criterion,) = parse_criteria(text)
    return criterion


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        *(("p50<250ms", 0.25), ("p99.9 <= 1.5s", 1.5), ("max<800us", 0.0008), ("mean<800µs", 0.0008)),
        *(("raw_p99<.5s", 0.5), ("rate>=480", 480), ("achieved<480/s", 480), ("lost>0", 0)),
        *(("errors>1%", 0.01), ("cpu<90%", 0.9), ("cpu<0.9", 0.9), ("rss<200MiB", 200 * 1024**2)),
        *(("rss<1000", 1000), ("loop_lag<50ms", 0.05), ("cpu_per_message<300us", 0.0003)),
    ],
)
def test_limit_is_in_base_units(text: str, limit: float) -> None:
    assert one(text).limit == pytest.approx(limit, rel=1e-12)


def test_list_is_separated_by_commas() -> None:
    assert list(map(str, parse_criteria(" p99 < 250 ms , lost>0"))) == ["p99<250ms", "lost>0"]


@pytest.mark.parametrize("text", ["p99<250ms", "p99.9<=1.5s", "errors>1%", "rss>=200MiB", "cpu=0.1"])
def test_text_of_a_criterion_is_what_was_written(text: str) -> None:
    assert str(one(text)) == text
    assert one(str(one(text))) == one(text)


def test_other_spellings() -> None:
    assert one("p999<1s") == one("p99.9<1s")
    assert one("raw_p999<1s") == one("raw_p99.9<1s")
    assert one("lost==0") == one("lost=0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "'' is no criterion"),
        ("p99<250ms,", "'' is no criterion"),
        ("p99", "'p99' is no criterion, expected NAME, one of < <= > >= =, and a limit"),
        ("p99<1s<2s", "'p99<1s<2s' is no criterion"),
        ("p98<1s", "'p98<1s': nothing measured is called 'p98'; the nearest is 'p9"),
        ("lots>0", "the nearest is 'lost'"),
        ("<1s", "'<1s': nothing measured is called '' (known: p50, p90, p99, p99.9, max, mean, raw_p50"),
        ("p99<250", "'p99<250': 250 is no limit, expected a time with its unit, as 250ms"),
        ("p99<ms", "'p99<ms': ms is no limit, expected a time with its unit"),
        ("lost>1ms", "'lost>1ms': 1ms is no limit, expected a count, or a share of what was sent"),
        ("achieved<1%", "1% is no limit, expected a number per second"),
        ("cpu<1core", "1core is no limit, expected cores, as 0.9 or 90%"),
        ("rss<1MB", "1MB is no limit, expected a size, as 200MiB"),
        ("p99<-1ms", "-1ms is no limit, expected a time"),
    ],
)
def test_what_is_wrong_is_said(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        parse_criteria(text)


@pytest.mark.parametrize(
    ("relation", "truth"),
    [
        ("<", (True, False, False)),
        ("<=", (True, True, False)),
        (">", (False, False, True)),
        (">=", (False, True, True)),
        ("=", (False, True, False)),
    ],
)
def test_relations(relation: str, truth: tuple[bool, bool, bool]) -> None:
    assert tuple(holds(one(f"lost{relation}2"), a_run(lost=lost)) for lost in (1, 2, 3)) == truth


def test_every_measure_reads_what_it_is_called() -> None:
    counted = ("sent", "answered", "rejected", "errors", "lost", "unanswered", "duplicates", "disconnects")
    run = a_run(
        corrected=a_latency(0.02),
        raw=a_latency(0.5),
        **{name: number for number, name in enumerate(counted, 1)},
        achieved=9.0,
        server=a_server(cpu=0.3, cpu_per_message=0.4, rss=50, loop_lag_p99=0.6),
    )
    read = {name: measure.read(run) for name, measure in MEASURES.items()}
    assert [read[name] for name in ("p50", "p90", "p99", "p99.9", "max", "mean")] == [
        *(run.corrected.p50, run.corrected.p90, run.corrected.p99),
        *(run.corrected.p999, run.corrected.max, run.corrected.mean),
    ]
    assert (read["raw_p50"], read["raw_p99.9"]) == (0.5, run.raw.p999)
    assert [read[name] for name in counted] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert (read["rate"], read["achieved"], read["cpu"], read["cpu_per_message"]) == (1000.0, 9.0, 0.3, 0.4)
    assert (read["rss"], read["loop_lag"]) == (50, 0.6)


def test_share_is_of_what_was_sent() -> None:
    run = a_run(sent=200, errors=3)
    assert value_of(one("errors>1%"), run) == 0.015
    assert holds(one("errors>1%"), run) is True
    assert holds(one("errors>2%"), run) is False
    assert holds(one("errors>2"), run) is True


UNKNOWN: tuple[tuple[str, Run, str], ...] = (
    ("p99<1s", a_run(corrected=NOTHING), "nothing was sent"),
    ("raw_p99<1s", a_run(raw=NOTHING), "nothing was answered"),
    ("cpu<1", a_run(server=None), "no /metrics of the server"),
    ("errors<1%", a_run(sent=0), "nothing was sent"),
)


@pytest.mark.parametrize(("text", "run", "why"), UNKNOWN)
def test_what_is_not_known_meets_no_target_and_fails_the_run(text: str, run: Run, why: str) -> None:
    criterion = one(text)
    assert holds(criterion, run) is None
    assert not meets([criterion], run)
    assert misses([criterion], run) == (f"{criterion.name} not known, not {text}",)
    assert failures([criterion], [run]) == (f"run: cannot tell {text}: {why}",)


def test_target_is_met_when_all_of_it_holds() -> None:
    run = a_run(corrected=a_latency(0.02), lost=1)
    assert meets(parse_criteria("p50<1s,p99<1s"), run)
    assert not meets(parse_criteria("p50<1s,lost<1"), run)
    assert meets((), run)


def test_failures_name_the_run_the_value_and_the_criterion() -> None:
    runs = [a_run(4, lost=2, sent=100), a_run(8)]
    found = failures(parse_criteria("lost>0,lost>1%,p99>1s"), runs)
    assert found == ("payments=4: lost 2 (lost>0)", "payments=4: lost 2.00 % (lost>1%)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *(("p50<1s", "p50 20.0 ms"), ("achieved<1", "achieved 1,000/s"), ("sent<1", "sent 20,000")),
        *(("cpu<1", "cpu 0.20 cores"), ("rss<1", "rss 80.0 MiB"), ("errors<1%", "errors 0 %")),
    ],
)
def test_value_is_shown_with_its_unit(text: str, said: str) -> None:
    assert shown(one(text), a_run()) == said
