"""Destinations: what a pattern reaches, what a template takes apart and puts together, what is neither."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_stomp.config import DESTINATION_LENGTH
from trio_stomp.errors import DestinationError
from trio_stomp.stomp.destinations import Pattern, Template, check_length

LONGEST = "/" + "x" * (DESTINATION_LENGTH - 1)
in_both = pytest.mark.parametrize("separator", ["/", "."])


def refusal(parse: type[Pattern] | type[Template], text: str) -> DestinationError:
    with pytest.raises(DestinationError) as caught:
        parse.parse(text)
    return caught.value


# Patterns.


@pytest.mark.parametrize(
    ("pattern", "reached", "missed"),
    [
        ("/a", ["/a"], ["/b", "/a/", "a", "/A", "/a/b", ""]),
        ("/a/*", ["/a/b", "/a/*", "/a/**", "/a/ä", "/a/b c"], ["/a", "/a/b/c", "/b/b", "/a/b/"]),
        ("/a/*", ["/a/"], []),  # a segment may be empty: only a template's variable may not
        ("/*/b", ["/a/b", "//b"], ["/a/c", "/b", "/a/a/b"]),
        ("/a/*/c/*", ["/a/b/c/d"], ["/a/b/c", "/a/b/x/d", "/a/b/c/d/e"]),
        ("/a/**", ["/a/b", "/a/b/c", "/a/", "/a//", "/a/**"], ["/a", "/b/a", "/ab/c", "a/b"]),
        ("/a/*/**", ["/a/b/c", "/a/b/c/d", "/a//"], ["/a/b", "/a"]),
        ("*", ["a", "", "**"], ["/a", "a/b"]),
        ("**", ["a", "/", "/a/b", ""], []),
        ("/**", ["/", "/a", "/a/b"], ["a", "a/b"]),
        ("/a/{b}", ["/a/{b}"], ["/a/c"]),  # a template's variable is no wildcard here
        ("/a/.+", ["/a/.+"], ["/a/bb"]),
        ("/a/?", ["/a/?"], ["/a/b"]),
    ],
)
@in_both
def test_a_pattern_reaches_what_it_says(
    pattern: str, reached: list[str], missed: list[str], separator: str
) -> None:
    def own(text: str) -> str:
        return text.translate({ord("/"): separator, ord("."): "-"})

    parsed = Pattern.parse(own(pattern), separator)
    assert parsed.text == own(pattern)
    assert [text for text in reached if not parsed.matches(own(text))] == []
    assert [text for text in missed if parsed.matches(own(text))] == []


@in_both
def test_the_other_separator_is_text_like_any_other(separator: str) -> None:
    other = "." if separator == "/" else "/"
    assert Pattern.parse(f"a{separator}*", separator).matches(f"a{separator}b{other}c")
    assert not Pattern.parse(f"a{separator}*", separator).matches(f"a{other}b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a destination is empty"),
        (LONGEST + "x", "a destination of 1025 characters, the limit is 1024"),
        ("/a*", r"a wildcard is a whole segment, not 'a\*'"),
        ("/*a", "a wildcard is a whole segment"),
        ("/***", "a wildcard is a whole segment"),
        ("/a/**b", "a wildcard is a whole segment"),
        ("/a.*", "a wildcard is a whole segment"),
        ("/**/a", r"'\*\*' is the last segment"),
        ("/**/", r"'\*\*' is the last segment"),
        ("/**/**", r"'\*\*' is the last segment"),
    ],
)
def test_what_is_no_pattern_is_refused(text: str, message: str) -> None:
    error = refusal(Pattern, text)
    assert re.search(message, str(error))
    assert error.destination == text


def test_a_pattern_without_wildcard_is_exact() -> None:
    assert Pattern.parse("/a/{b}").is_exact
    assert not Pattern.parse("/a/*").is_exact
    assert Pattern.parse(LONGEST).matches(LONGEST)


segments = st.text("ab{}.*?[]\\ ä\n", max_size=3)
patterns = st.lists(st.sampled_from(["*", "a", "b", "", "a.b", "[a]", "?"]), min_size=1, max_size=5).flatmap(
    lambda parts: st.sampled_from(["/".join(parts), "/".join([*parts, "**"])])
)
destinations = st.lists(
    st.sampled_from(["a", "b", "", "a.b", "[a]", "*"]) | segments, min_size=1, max_size=6
).map("/".join)


@given(patterns.filter(bool), destinations)
def test_a_pattern_reaches_what_its_regular_expression_would(pattern: str, destination: str) -> None:
    wild = {"*": "[^/]*", "**": ".*"}
    expression = "/".join(wild.get(segment, re.escape(segment)) for segment in pattern.split("/"))
    expected = re.fullmatch(expression, destination, re.DOTALL) is not None
    assert Pattern.parse(pattern).matches(destination) is expected


@given(st.text("*/a{}.", max_size=12))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    try:
        pattern = Pattern.parse(text)
    except DestinationError:
        return
    assert pattern.matches(text.replace("*", "x"))


class Counted(str):
    """A segment that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Counted.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


@pytest.mark.parametrize("rest", ["", "/**"])
@pytest.mark.parametrize("last", ["a", "b"])
def test_matching_compares_each_segment_a_few_times_only(rest: str, last: str) -> None:
    # Wildcards and near misses by turns: what a matcher that tries again would stumble over.
    pattern = Pattern.parse("*/a/" * 15 + "a" + rest)
    counted = Pattern(pattern.text, "/", tuple(map(Counted, pattern.segments)), is_exact=False)
    Counted.compared = 0
    destination = "a/a/" * 15 + last + ("/a" * 10 if rest else "")
    assert counted.matches(destination) is (last == "a")
    assert 0 < Counted.compared <= 2 * len(pattern.segments) + 1


# Templates.


@pytest.mark.parametrize(
    ("template", "destination", "variables"),
    [
        ("/app/chat", "/app/chat", {}),
        ("/app/chat", "/app/Chat", None),
        ("/app/chat", "/app/chat/", None),
        ("/app/{room}", "/app/1", {"room": "1"}),
        ("/app/{room}", "/app/ä b:c\\", {"room": "ä b:c\\"}),
        ("/app/{room}", "/app/{room}", {"room": "{room}"}),
        ("/app/{room}", "/app/*", {"room": "*"}),
        ("/app/{room}", "/app/", None),
        ("/app/{room}", "/app", None),
        ("/app/{room}", "/app/1/2", None),
        ("/app/{a}/x/{b}", "/app/1/x/2", {"a": "1", "b": "2"}),
        ("/app/{a}/x/{b}", "/app/1/y/2", None),
        ("{a}", "1", {"a": "1"}),
        ("{a}", "", None),
    ],
)
@in_both
def test_a_template_takes_a_destination_apart(
    template: str, destination: str, variables: Mapping[str, str] | None, separator: str
) -> None:
    parsed = Template.parse(template.replace("/", separator), separator)
    assert parsed.match(destination.replace("/", separator)) == variables
    assert parsed.match_segments(destination.split("/")) == variables


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a destination is empty"),
        (LONGEST + "x", "a destination of 1025 characters, the limit is 1024"),
        ("/app/*", "wildcards stand in subscriptions, not here"),
        ("/app/**", "wildcards stand in subscriptions, not here"),
        ("/app/x{a}", "a variable is a whole segment, not 'x{a}'"),
        ("/app/{a}x", "a variable is a whole segment"),
        ("/app/{a}{b}", "a variable is a whole segment"),
        ("/app/{{a}}", "a variable is a whole segment"),
        ("/app/{a", "a variable is a whole segment"),
        ("/app/a}", "a variable is a whole segment"),
        ("/app/{a/b}", "a variable is a whole segment"),
        ("/app/{a}\n", "a variable is a whole segment"),
        ("/app/{}", "'' is not a name"),
        ("/app/{1}", "'1' is not a name"),
        ("/app/{a-b}", "'a-b' is not a name"),
        ("/app/{a:int}", "'a:int' is not a name"),
        ("/app/{ a}", "' a' is not a name"),
        ("/app/{a}/{a}", "variable 'a' stands twice"),
    ],
)
def test_what_is_no_template_is_refused(text: str, message: str) -> None:
    error = refusal(Template, text)
    assert message in str(error)
    assert error.destination == text


@given(st.text("*/a{}1", max_size=12))
def test_any_text_is_a_template_or_refused(text: str) -> None:
    try:
        template = Template.parse(text)
    except DestinationError:
        return
    values = dict.fromkeys(template.variables, "x")
    assert template.match(template.format(values)) == values


def test_of_two_templates_that_fit_the_one_with_the_earlier_literal_comes_first() -> None:
    texts = ["/{a}/{b}", "/{a}/y", "/x/{b}", "/x/y"]
    templates = sorted(map(Template.parse, texts), key=lambda template: template.specificity)
    assert [template.text for template in templates] == ["/x/y", "/x/{b}", "/{a}/y", "/{a}/{b}"]
    assert all(template.match("/x/y") is not None for template in templates)


@pytest.mark.parametrize("variables", [{}, {"room": ""}, {"room": "a/b"}, {"room": "*"}, {"room": "a*"}])
def test_format_refuses_what_would_be_another_destination(variables: dict[str, str]) -> None:
    with pytest.raises(DestinationError, match=r"cannot stand for \{room\} in '/topic/\{room\}'"):
        Template.parse("/topic/{room}").format(variables)


def test_format_takes_what_the_template_names_and_leaves_the_rest() -> None:
    assert Template.parse("/topic/{a}").format({"a": "1", "b": "*"}) == "/topic/1"
    assert Template.parse("/topic").format({"b": "2"}) == "/topic"
    assert Template.parse("a.{b}", ".").format({"b": "c/d"}) == "a.c/d"


names = st.sampled_from(["a", "b", "room", "ä", "_1"])
literals = st.text(st.characters(exclude_characters="/*{}", exclude_categories=["Cs"]), max_size=4)
values = st.text(st.characters(exclude_characters="/*", exclude_categories=["Cs"]), min_size=1, max_size=6)


@given(
    st.lists(names, unique=True, max_size=4).flatmap(
        lambda chosen: st.tuples(
            st.permutations([*(f"{{{name}}}" for name in chosen), "x"]),
            st.lists(literals, max_size=3),
            st.fixed_dictionaries(dict.fromkeys(chosen, values)),
        )
    )
)
def test_what_is_put_together_is_taken_apart_again(
    case: tuple[list[str], list[str], dict[str, str]],
) -> None:
    parts, rest, variables = case
    template = Template.parse("/" + "/".join([*parts, *rest]))
    assert sorted(template.variables) == sorted(variables)
    destination = template.format(variables)
    assert template.match(destination) == variables
    # And a subscription with a wildcard for each variable is reached by it.
    wild = "/" + "/".join(["*" if part.startswith("{") else part for part in parts] + rest)
    assert Pattern.parse(wild).matches(destination)


def test_a_template_as_long_as_can_be_is_matched_in_one_pass() -> None:
    count = 200
    template = Template.parse("".join(f"/{{a{n}}}" for n in range(100)) + "/x" * (count - 100))
    assert template.match("/x" * count) == {f"a{n}": "x" for n in range(100)}
    assert template.match("/x" * (count - 1) + "/y") is None


# Length.


@pytest.mark.parametrize("text", ["/", "x", LONGEST, "ä" * DESTINATION_LENGTH])
def test_a_destination_of_one_to_1024_characters_is_taken(text: str) -> None:
    check_length(text)
    assert Pattern.parse(text).matches(text)
    assert Template.parse(text).match(text) == {}


@pytest.mark.parametrize("text", ["", LONGEST + "x", "/*" * DESTINATION_LENGTH])
def test_a_destination_that_is_empty_or_longer_is_refused(text: str) -> None:
    with pytest.raises(DestinationError) as caught:
        check_length(text)
    assert caught.value.destination == text
    assert len(str(caught.value)) < 100  # its length is told, not its text


@pytest.mark.parametrize("separator", ["/", "."])
def test_a_pattern_has_a_limited_number_of_segments_and_an_exact_destination_has_not(separator: str) -> None:
    """Each segment of a pattern is kept by the broker, and looked at for each message that fits so far."""
    longest = separator.join(["a"] * 31 + ["*"])
    assert Pattern.parse(longest, separator).matches(longest.replace("*", "b"))
    with pytest.raises(DestinationError, match="a pattern of 33 segments, the limit is 32"):
        Pattern.parse("a" + separator + longest, separator)
    assert Pattern.parse(separator.join("a" * 500), separator).is_exact
