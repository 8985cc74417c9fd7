"""Loops of one round leave generated C only where it stays the same."""

from __future__ import annotations

import pytest

from tinsmith.codegen.single_loops import without_single_loops


def function(*body: str) -> str:
    return "\n".join(["static void f(int8_t *x)", "{", *(f"    {line}" for line in body), "}"])


def test_a_loop_of_one_round_is_its_body() -> None:
    text = function(
        "for (int32_t n = 0; n < 1; n++) {",
        "    for (int32_t i = 0; i < 9; i++) {",
        "        x[(n * 5 + i) * 3] = 0;",
        "    }",
        "    x += 27;",
        "}",
    )
    assert without_single_loops(text) == function(
        "for (int32_t i = 0; i < 9; i++) {", "    x[i * 3] = 0;", "}"
    )


def test_nested_loops_of_one_round_all_go() -> None:
    text = function(
        "for (int32_t oy = 0; oy < 1; oy++) {",
        "    const int32_t top = oy * 3;",
        "    for (int32_t ox = 0; ox < 1; ox++) {",
        "        x[top + ox] = 1;",
        "    }",
        "}",
    )
    assert without_single_loops(text) == function("const int32_t top = 0;", "x[top] = 1;")


def test_sums_lose_their_terms_of_nothing_wherever_they_stand() -> None:
    text = function(
        "for (int32_t oy = 0; oy < 1; oy++) {",
        "    const int32_t top = oy * 2 - 1;",
        "    for (int32_t ox = 0; ox < 1; ox++) {",
        "        x[((oy + iy) * 5 + ox * 2 + ix) * 3 + c] = top;",
        "        x[((oy * 2 + ox)) * 3 + c] = top;",
        "    }",
        "}",
    )
    assert without_single_loops(text) == function(
        "const int32_t top = -1;", "x[(iy * 5 + ix) * 3 + c] = top;", "x[c] = top;"
    )


@pytest.mark.parametrize(
    "body",
    [
        ["for (int32_t n = 0; n < 1; n++) {", "    if (x[0]) {", "        continue;", "    }", "}"],
        ["for (int32_t n = 0; n < 1; n++) {", "    g(x, n - 0 * 3);", "}"],
        [
            "for (int32_t n = 0; n < 1; n++) {", "    int32_t acc = 0;", "    x[0] = acc;", "}",
            "int32_t acc = 1;", "x[1] = acc;",
        ],
        [
            "int32_t step = 8;", "step = 4;", "for (int32_t kx = 0; kx < 1; kx++) {",
            "    x[at + kx * step] = 0;", "}",
        ],
        ["for (int32_t n = 0; n < 2; n++) {", "    x[n] = 0;", "}"],
        ["for (int32_t n = 0; n < count; n++) {", "    x[n] = 0;", "}"],
    ],
)  # fmt: skip
def test_a_loop_stays_where_its_body_would_mean_something_else(body: list[str]) -> None:
    assert without_single_loops(function(*body)) == function(*body)


def test_what_moves_on_for_a_next_round_goes_with_it() -> None:
    text = function(
        "for (int32_t n = 0; n < 1; n++) {",
        "    for (int32_t i = 0; i < 9; i++) {",
        "        *x = y[0];",
        "        x += 3;",
        "    }",
        "    x += 27;",
        "    y += 9;",
        "}",
    )
    assert without_single_loops(text) == function(
        "for (int32_t i = 0; i < 9; i++) {", "    *x = y[0];", "    x += 3;", "}"
    )


def test_what_moves_on_before_it_is_read_stays() -> None:
    text = function(
        "for (int32_t n = 0; n < 1; n++) {",
        "    x += 27;",
        "}",
        "x[0] = 0;",
    )
    assert without_single_loops(text) == function("x += 27;", "x[0] = 0;")


def test_what_moves_on_stays_where_a_parameter_is_used_nowhere_else() -> None:
    loop = ("for (int32_t n = 0; n < 1; n++) {", "    x[n] = 0;", "    x += step;", "}")
    assert without_single_loops(function(*loop)) == function("x[0] = 0;", "x += step;")
    used = function(*loop[:2], "    g(step);", *loop[2:])
    assert without_single_loops(used) == function("x[0] = 0;", "g(step);")


def test_a_name_in_a_comment_is_no_other_variable() -> None:
    text = "/* Divided by the sum. */\n" + function(
        "for (int32_t n = 0; n < 1; n++) {",
        "    const int32_t sum = x[0];",
        "    x[1] = sum;",
        "}",
    )
    assert "for" not in without_single_loops(text)
