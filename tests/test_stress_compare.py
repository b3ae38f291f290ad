"""Two reports side by side."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from stress_values import NOTHING, a_latency, a_report, a_run, a_server

from trio_stomp.stress.compare import compare_text
from trio_stomp.stress.results import Run


def lines(before: Run, after: Run, noise: float = 0.05) -> dict[str, list[str]]:
    """Compare two runs; what is said of each quantity, word by word."""
    text = compare_text(a_report([before], kind="run"), a_report([after], kind="run"), noise=noise)
    found = [line.strip() for line in text.splitlines() if "->" in line]
    return {line.split("  ")[0]: line.split()[line.startswith("CPU") * 2 + 1 :] for line in found}


def test_each_quantity_is_shown_before_and_after() -> None:
    said = lines(
        a_run(achieved=800.0, corrected=a_latency(0.02), server=a_server(cpu_per_message=0.0002)),
        a_run(achieved=880.0, corrected=a_latency(0.03), server=a_server(cpu_per_message=0.0001)),
    )
    assert said["achieved"] == ["800/s", "->", "880/s", "+10.0", "%", "better"]
    assert said["p50"] == ["20.0", "ms", "->", "30.0", "ms", "+50.0", "%", "WORSE"]
    assert said["p99"] == ["38.0", "ms", "->", "57.0", "ms", "+50.0", "%", "WORSE"]
    assert said["CPU per message"] == ["200", "µs", "->", "100", "µs", "-50.0", "%", "better"]


def test_less_throughput_is_worse() -> None:
    assert lines(a_run(achieved=800.0), a_run(achieved=700.0))["achieved"][-1] == "WORSE"


def test_change_within_the_noise_is_neither() -> None:
    before, after = a_run(achieved=800.0), a_run(achieved=840.0)
    assert lines(before, after)["achieved"] == ["800/s", "->", "840/s", "+5.0", "%"]
    assert lines(before, after, noise=0.01)["achieved"][-1] == "better"


def test_failures_are_shown_as_shares_where_there_are_any() -> None:
    said = lines(a_run(sent=1000, lost=0, errors=20), a_run(sent=1000, lost=10, errors=0))
    assert said["lost"] == ["0", "%", "->", "1.00", "%", "WORSE"]
    assert said["errors"] == ["2.00", "%", "->", "0", "%", "-100.0", "%", "better"]
    assert "rejected" not in said
    assert "unanswered" not in said


def test_what_is_not_known_is_no_change() -> None:
    nothing: dict[str, Any] = {"corrected": NOTHING, "server": None, "sent": 0}
    said = lines(a_run(**nothing), a_run(rejected=2, sent=4))
    assert said["p99"] == ["-", "->", "38.0", "ms"]
    assert said["CPU per message"] == ["-", "->", "200", "µs"]
    assert said["rejected"] == ["-", "->", "50.0", "%"]
    assert lines(a_run(rejected=2, sent=4), a_run(**nothing))["rejected"] == ["50.0", "%", "->", "-"]


def test_columns_are_aligned() -> None:
    text = compare_text(a_report([a_run()]), a_report([a_run(achieved=10.0)]))
    rows = [line for line in text.splitlines() if "->" in line]
    assert len({line.index("->") for line in rows}) == 1


def test_runs_are_matched_by_their_label_and_the_others_named() -> None:
    a, b = a_report([a_run(2), a_run(4), a_run(8)]), a_report([a_run(8), a_run(16)])
    text = compare_text(a, b)
    assert [line for line in text.splitlines() if line.startswith("payments")] == ["payments=8"]
    assert "only in A: payments=2, payments=4\n" in text
    assert "only in B: payments=16\n" in text
    assert "nothing to compare" not in text


def test_reports_without_a_common_run_are_said_to_have_none() -> None:
    text = compare_text(a_report([a_run(2)]), a_report([a_run(4)]))
    assert "No run of A has the label of one of B: there is nothing to compare." in text


def test_both_are_named_at_the_top() -> None:
    a, b = a_report([a_run()], started="monday"), a_report([a_run()], started="friday", version="0.2.0")
    assert compare_text(a, b, ("old.json", "new.json")).splitlines()[:2] == [
        "A  old.json: monday, trio-stomp 0.1.0",
        "B  new.json: friday, trio-stomp 0.2.0",
    ]


def test_same_test_has_no_warning() -> None:
    assert "Not the same test" not in compare_text(a_report([a_run()]), a_report([a_run()]))


@pytest.mark.parametrize(
    ("field", "other", "said"),
    [
        ("machine", "a laptop", "machine: Linux 6.12, x86_64, 8 CPUs, CPython 3.12.4 in A, a laptop in B"),
        ("version", "0.2.0", "version: 0.1.0 in A, 0.2.0 in B"),
        ("destination", "/app/x", "destination: /app/pay in A, /app/x in B"),
        ("reply", None, "reply: /user/queue/receipts in A, none in B"),
        ("goal", "p99<1s", "goal: none in A, p99<1s in B"),
        ("kind", "ramp", "kind: sweep in A, ramp in B"),
        ("target", "\x1b[31m", "target: shop.app:app in A, \\x1b[31m in B"),
    ],
)
def test_difference_between_the_tests_is_said(field: str, other: str | None, said: str) -> None:
    report = a_report([a_run()])
    text = compare_text(report, attrs.evolve(report, **{field: other}))
    assert f"Not the same test, so the numbers may differ for that reason alone:\n  {said}\n" in text


def test_difference_between_the_runs_is_said_once() -> None:
    a = a_report([a_run(2), a_run(4)])
    b = a_report([a_run(2, rate=500.0, clients=50), a_run(4, rate=500.0, clients=50, duration=5.0)])
    text = compare_text(a, b)
    assert text.count("rate: 1,000/s in A, 500/s in B") == 1
    assert text.count("clients: 200 in A, 50 in B") == 1
    assert text.count("duration: 20.0 s in A, 5.00 s in B") == 1


def test_recommendations_stand_side_by_side() -> None:
    a = a_report([a_run(8), a_run(16)])
    b = a_report([a_run(8, achieved=500.0), a_run(16)], goal="p99<1ms")
    assert compare_text(a, b).endswith(
        "A recommends 8 threads for payments\nB recommends 16 threads for payments (misses the target)\n"
    )


def test_breaking_points_stand_side_by_side() -> None:
    a = a_report([a_run(rate=100.0), a_run(rate=200.0, achieved=1.0)], kind="ramp")
    b = a_report([a_run(rate=100.0)], kind="ramp")
    c = a_report([a_run(rate=100.0, achieved=1.0)], kind="ramp")
    assert compare_text(a, b).endswith(
        "A holds 100/s, breaks at 200/s\nB holds 100/s, breaks at none that was tried\n"
    )
    assert compare_text(a, c).endswith("B holds none, breaks at 100/s\n")
