"""Sizes of exported programs, which sympy evaluates: what these texts may be.

They are what ``sympy.srepr`` writes, as ``Add(Symbol('s0', integer=True), Integer(-1))``: calls of
named functions, with no operators, and nothing whose value could be far larger than its text.
"""

from __future__ import annotations

import ast
import re

_MOST_LETTERS = 10_000
_LARGEST_EXPONENT = 64
_FUNCTION = re.compile(
    "Integer|Rational|Add|Mul|Max|Min|Abs|Mod|floor|ceiling|And|Or|Not|Eq|Ne|Lt|Le"
    "|Gt|Ge|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|FloorDiv"
    "|ModularIndexing|Where|PythonMod|CleanDiv|CeilToInt|FloorToInt|CeilDiv"
    "|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator|TruncToFloat"
    "|TruncToInt|RoundToInt|ToFloat|Identity"
)
"""sympy's functions of numbers, and what PyTorch adds to them."""
_POWERS = frozenset({"Pow", "PowByNatural", "FloatPow", "LShift", "RShift", "RoundDecimal"})
"""Functions whose second argument is an exponent, or an exponent's number of digits."""
_ALLOWED_CHARACTERS = re.compile(r"[\w '.,()=+-]*", re.ASCII)
_CONSTANT = re.compile("oo|int_oo|true|false")
_SYMBOL = re.compile(r"[a-z]{1,3}\d+", re.ASCII)
_FLOAT = re.compile(r"-?[\d.]{1,40}(e[+-]?\d{1,3})?", re.ASCII)
_MOST_BITS = 53


def is_expression(text: str) -> bool:
    """Whether it is a size, so that evaluating it runs nothing else, and soon ends."""
    if len(text) > _MOST_LETTERS or not _ALLOWED_CHARACTERS.fullmatch(text):
        return False
    try:
        return _is_value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _is_value(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name("Symbol"), args=[ast.Constant(str(name))]):
            return _SYMBOL.fullmatch(name) is not None and _are(bool, node.keywords)
        case ast.Call(func=ast.Name("Float"), args=[ast.Constant(str(number))]):
            return _FLOAT.fullmatch(number) is not None and _are(int, node.keywords)
        case ast.Call(func=ast.Name(name), args=[base, exponent], keywords=[]) if name in _POWERS:
            return _is_value(base) and not _has_power(base) and _is_small(exponent)
        case ast.Call(func=ast.Name(name), args=arguments, keywords=[]):
            return _FUNCTION.fullmatch(name) is not None and all(map(_is_value, arguments))
        case ast.Name(name):
            return _CONSTANT.fullmatch(name) is not None
    return _integer(node) is not None


def _are(kind: type[int], keywords: list[ast.keyword]) -> bool:
    """What is assumed of a symbol, and the precision of a number."""
    values = [each.value.value for each in keywords if isinstance(each.value, ast.Constant)]
    return len(values) == len(keywords) and all(
        isinstance(value, kind) and value <= _MOST_BITS for value in values
    )


def _has_power(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Name) and each.id in _POWERS for each in ast.walk(node))


def _is_small(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and len(node.args) == 1:
        node = node.args[0]
    number = _integer(node)
    return number is not None and abs(number) <= _LARGEST_EXPONENT


def _integer(node: ast.AST) -> int | None:
    """A number that is written out; None for anything else."""
    sign = 1
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        sign, node = -1, node.operand
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return sign * node.value
    return None
