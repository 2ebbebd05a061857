import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnext.errors import NotationError, SpecError
from resnext.template import Template, width_for

counts = st.integers(1, 999_999)


@given(counts, counts)
def test_what_is_printed_is_read_back(cardinality: int, width: int):
    template = Template(cardinality, width)
    assert Template.parse(str(template)) == template
    assert Template.parse(f" {cardinality}×{width}D ") == template


@pytest.mark.parametrize(
    "text",
    ["32x4", "x4d", "32xd", "0x4d", "-1x4d", "32x0d", "4.5x4d", "32x4.5d", "1e9x4d", "32 x 4d", "",
     "32x4dd", "٣٢x4d", "9" * 7 + "x4d", "32x4d" * 2000],
)  # fmt: skip
def test_malformed_templates_say_the_grammar_in_one_short_line(text: str):
    with pytest.raises(NotationError, match="expected a template CxWd such as '32x4d'") as caught:
        Template.parse(text)
    assert len(str(caught.value)) < 200
    assert "\n" not in str(caught.value)


@given(st.text(max_size=20))
def test_any_text_is_read_or_refused(text: str):
    try:
        template = Template.parse(text)
    except NotationError:
        return
    assert Template.parse(str(template)) == template


@pytest.mark.parametrize("value", [0, -1, 2.0, True, "4", 10**6])
def test_counts_outside_the_possible_are_refused(value: object):
    with pytest.raises(SpecError, match="expected width as a whole number"):
        Template(32, value)  # type: ignore[arg-type]


def equation_4(cardinality: int, width: int) -> int:
    """C · (256 · d + 3 · 3 · d · d + d · 256), as printed in Sec. 3.4."""
    return cardinality * (256 * width + 3 * 3 * width * width + width * 256)


@pytest.mark.parametrize(("cardinality", "width"), [(1, 64), (2, 40), (4, 24), (8, 14), (32, 4)])
def test_equation_4_solved_is_table_2(cardinality: int, width: int):
    found = width_for(69_632, lambda d: equation_4(cardinality, d))
    assert found == width


@given(st.integers(1, 64), st.integers(1, 10**7))
def test_the_width_found_is_the_nearest_one(cardinality: int, budget: int):
    def cost(width: int) -> int:
        return equation_4(cardinality, width)

    try:
        width = width_for(budget, cost)
    except SpecError:
        assert cost(1) - budget >= budget  # nothing at all is as near
        return
    assert width >= 1
    distance = abs(cost(width) - budget)
    assert all(abs(cost(other) - budget) >= distance for other in (width - 1, width + 1) if other)
