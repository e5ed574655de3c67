"""Operators: small mistakes that can be made anywhere in a kernel's source, each as what would stand there instead.

An operator is given a node of the syntax tree and gives texts for it. What the classes are is in docs/mutants.md.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from itertools import pairwise

Source = Callable[[ast.AST], str]
"""The text of a node."""
Operator = Callable[[ast.AST, Source], Iterator[str]]

SYMBOLS: dict[type[ast.cmpop], str] = {ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">="}
OTHERS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
}
"""What may stand in the place of a comparison by mistake."""
SIGNS: dict[type[ast.operator], str] = {ast.Add: "-", ast.Sub: "+"}
DIVISIONS: dict[type[ast.operator], str] = {
    ast.FloorDiv: "%",
    ast.Mod: "//",
    ast.RShift: "<<",
    ast.LShift: ">>",
    ast.Div: "*",
}
RELATIVES = {
    "exp": "exp2",
    "exp2": "exp",
    "log": "log2",
    "log2": "log",
    "rsqrt": "sqrt",
    "maximum": "minimum",
    "minimum": "maximum",
    "max": "min",
    "min": "max",
}
MEMORY = ("load", "store", "atomic_add")
ZEROS = {"zeros": "ones", "zeros_like": "ones_like", "new_zeros": "new_ones"}


def comparison(node: ast.AST, source: Source) -> Iterator[str]:
    """A comparison that takes in its bound, or leaves it out; equal for unequal."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in OTHERS:
        left, right = _operand(source, node.left), _operand(source, node.comparators[0])
        yield f"({left} {OTHERS[type(node.ops[0])]} {right})"


def bound(node: ast.AST, source: Source) -> Iterator[str]:
    """A comparison that leaves out one more."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and (symbol := SYMBOLS.get(type(node.ops[0]))):
        tighter = "- 1" if symbol in ("<", "<=") else "+ 1"
        yield f"({_operand(source, node.left)} {symbol} ({source(node.comparators[0])}) {tighter})"


def index(node: ast.AST, source: Source) -> Iterator[str]:
    """An address one element too far."""
    if _called(node) in MEMORY and isinstance(node, ast.Call) and node.args and _is_address(node.args[0]):
        yield _replaced(source, node, node.args[0], f"({source(node.args[0])}) + 1")


def integer(node: ast.AST, source: Source) -> Iterator[str]:
    """A whole number that is one too large."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        yield str(node.value + 1)


def mask(node: ast.AST, source: Source) -> Iterator[str]:
    """An access without its mask, a condition without one of its parts."""
    if isinstance(node, ast.Call) and any(word.arg == "mask" for word in node.keywords):
        kept = [source(argument) for argument in node.args]
        kept += [source(word) for word in node.keywords if word.arg not in ("mask", "other")]
        yield f"{source(node.func)}({', '.join(kept)})"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        yield from (f"({source(node.left)})", f"({source(node.right)})")


def stride(node: ast.AST, source: Source) -> Iterator[str]:
    """Two strides in a call that have changed places."""
    if isinstance(node, ast.Call):
        strides = [argument for argument in node.args if "stride" in source(argument)]
        for one, other in pairwise(strides):
            if source(one) != source(other):
                yield _exchanged(source, node, one, other)


def factor(node: ast.AST, source: Source) -> Iterator[str]:
    """A product without one of its factors."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        yield from (f"({source(node.left)})", f"({source(node.right)})")


def doubled(node: ast.AST, source: Source) -> Iterator[str]:
    """A sum or a product of matrices that counts twice."""
    if _called(node) in ("sum", "dot", "multiply", "bmm", "einsum", "cumsum"):
        yield f"({source(node)} * 2)"


def sign(node: ast.AST, source: Source) -> Iterator[str]:
    """Plus for minus."""
    if isinstance(node, ast.BinOp) and type(node.op) in SIGNS:
        yield f"({_operand(source, node.left)} {SIGNS[type(node.op)]} {_operand(source, node.right)})"
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        yield f"({source(node.operand)})"


def head_map(node: ast.AST, source: Source) -> Iterator[str]:
    """Remainder for quotient, as in a head map; one shift for the other."""
    if isinstance(node, ast.BinOp) and type(node.op) in DIVISIONS:
        yield f"({_operand(source, node.left)} {DIVISIONS[type(node.op)]} {_operand(source, node.right)})"


def cast(node: ast.AST, source: Source) -> Iterator[str]:
    """A conversion to 64 bits left out; one to a wide type that goes by way of a narrow one.

    Others change nothing when they are left out: Triton widens operands, and a store converts.
    """
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return
    name, value = node.func.attr, f"({source(node.func.value)})"
    if name in ("float", "double") or (name == "to" and node.args):
        if "64" in source(node):
            yield value
        if "tl." in source(node) and ("float32" in source(node) or "float64" in source(node)):
            yield f"{value}.to(tl.bfloat16).to({', '.join(source(part) for part in (*node.args, *node.keywords))})"


def initial(node: ast.AST, source: Source) -> Iterator[str]:
    """What should begin with zeros begins with ones."""
    if isinstance(node, ast.Call) and (name := _called(node)) in ZEROS:
        if source(node.func) == "tl.zeros":
            yield f"({source(node)} + 1)"
        else:
            yield source(node).replace(name, ZEROS[name], 1)


def missing(node: ast.AST, source: Source) -> Iterator[str]:
    """A statement left out: a store, a barrier, something added to what there is."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(node, ast.AugAssign) or (isinstance(call, ast.Call) and not _is_remark(call)):
        yield "pass"


def guard(node: ast.AST, source: Source) -> Iterator[str]:
    """A condition that always holds, or never."""
    if isinstance(node, ast.If):
        yield from (_replaced(source, node, node.test, word) for word in ("True", "False"))
    elif isinstance(node, ast.IfExp):
        yield from (f"({source(node.body)})", f"({source(node.orelse)})")
    elif _called(node) == "where" and isinstance(node, ast.Call) and len(node.args) == 3:
        yield from (f"({source(branch)})" for branch in node.args[1:])


def constant(node: ast.AST, source: Source) -> Iterator[str]:
    """A number that is twice as large; 1 for 0."""
    if isinstance(node, ast.Constant) and type(node.value) is float:
        yield repr(node.value * 2 or 1.0)


def relative(node: ast.AST, source: Source) -> Iterator[str]:
    """A function that is a near relative of the right one."""
    if isinstance(node, ast.Call) and (name := _called(node)) in RELATIVES and isinstance(node.func, ast.Attribute):
        yield _replaced(source, node, node.func, f"{source(node.func.value)}.{RELATIVES[name]}")


def order(node: ast.AST, source: Source) -> Iterator[str]:
    """An atomic access that orders nothing."""
    if isinstance(node, ast.keyword) and node.arg == "sem" and source(node.value) != '"relaxed"':
        yield 'sem="relaxed"'


OPERATORS: dict[str, Operator] = {
    operator.__name__: operator
    for operator in (
        comparison, bound, index, integer, mask, stride, factor, doubled, sign, head_map, cast, initial, missing, guard,
        constant, relative, order,
    )
}  # fmt: skip
"""By name, which is the class of its mutants."""


def _called(node: ast.AST) -> str:
    """The last part of the name of what a call calls."""
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _operand(source: Source, node: ast.AST) -> str:
    """Its text as an operand: the text of a node has none of the parentheses around it."""
    alone = isinstance(node, (ast.Name, ast.Constant, ast.Call, ast.Attribute, ast.Subscript))
    return source(node) if alone else f"({source(node)})"


def _is_address(node: ast.AST) -> bool:
    return isinstance(node, (ast.BinOp, ast.Name))


def _is_remark(call: ast.Call) -> bool:
    """Whether a call does nothing to the result: an assumption that is told to a compiler, a check."""
    return _called(call).startswith(("static_", "assume", "multiple_of", "max_contiguous", "check", "expect", "refuse"))


def _replaced(source: Source, whole: ast.AST, part: ast.AST, text: str) -> str:
    """The text of `whole` with another in the place of a part of it."""
    return _spliced(source(whole), [(*_place(source, whole, part), text)])


def _exchanged(source: Source, whole: ast.AST, one: ast.AST, other: ast.AST) -> str:
    first, second = _place(source, whole, one), _place(source, whole, other)
    return _spliced(source(whole), [(*first, source(other)), (*second, source(one))])


def _spliced(text: str, changes: list[tuple[int, int, str]]) -> str:
    for start, end, new in sorted(changes, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _place(source: Source, whole: ast.AST, part: ast.AST) -> tuple[int, int]:
    """Where the text of `part` begins and ends within that of `whole`."""
    begin = _distance(source(whole), whole, part)
    return begin, begin + len(source(part))


def _distance(text: str, whole: ast.AST, part: ast.AST) -> int:
    """Characters from the start of `whole`; columns of a tree are bytes."""
    lines = text.encode().split(b"\n")
    down = part.lineno - whole.lineno  # type: ignore[attr-defined]
    column = part.col_offset - (0 if down else whole.col_offset)  # type: ignore[attr-defined]
    return len(b"\n".join([*lines[:down], lines[down][:column]]).decode())
