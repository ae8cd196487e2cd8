"""Texts of sizes are evaluated by sympy only where that can neither run code nor last."""

from __future__ import annotations

import pytest

from serving.loaders.pytorch_expression import is_expression

S0 = "Symbol('s0', positive=True, integer=True)"


@pytest.mark.parametrize(
    "text",
    [
        "5",
        "-5",
        "oo",
        S0,
        f"Add({S0}, Integer(-3))",
        f"Mul(Integer(2), Pow({S0}, Integer(2)))",
        f"Max(Integer(1), TruncToInt(Mul(Float('1.5', precision=53), ToFloat({S0}))))",
        f"FloorDiv(Add({S0}, Rational(1, 2)), Integer(4))",
        f"And(Equality(Mod({S0}, Integer(2)), Integer(0)), true)",
    ],
)
def test_what_programs_with_dynamic_sizes_have_is_a_size(text: str):
    assert is_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir('ran')",
        "Symbol('__import__')",
        "Integer('9')",
        "Max(*[1])",
        "(lambda: 1)()",
        "s0.evalf",
        "Add(1, 2, evaluate=False)",
        "Symbol('s0', integer=9**9)",
        "1\n+1",
        "Add(1, 2) # 3",
        "",
        "(" * 300 + "1" + ")" * 300,
    ],
)
def test_anything_but_calls_of_known_functions_is_none(text: str):
    assert not is_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9",
        "9^9^9",
        "1 << 9999999999",
        "Pow(9, Pow(9, 9))",
        "Pow(Pow(Pow(9, 64), 64), 64)",
        "Pow(9, 9999999999)",
        f"Pow(9, {S0})",
        "Pow(9, Integer(9999999999))",
        "LShift(1, 9999999999)",
        "RShift(1, 9999999999)",
        "PowByNatural(9, 9999999999)",
        "FloatPow(9, 9999999999)",
        "RoundDecimal(1, -9999999999)",
        "floor(Float('1e9999999999'))",
        "floor(1e9999999999)",
        "Float('0.1', precision=9999999999)",
        "Add(" + "1, " * 10_000 + "1)",
    ],
)
def test_what_would_take_forever_is_none(text: str):
    assert not is_expression(text)
