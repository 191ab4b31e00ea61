"""Every key of a recipe with its default and meaning, as a page; `python -m pipelines.recipe_reference`."""

import ast
import dataclasses
import inspect
import json
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from forecast.models.spec import ModelSpec
from pipelines.recipe import NOT_OF_A_MODEL_TABLE, Recipe, table_of

BY_RULE = "by rule"
"""The default of what is resolved when the data is known."""

HEAD = """# Every key of a recipe

Written by `python -m pipelines.recipe_reference`; what they are for is told in [recipes.md](recipes.md).
A default of "–" is left out, and "{rule}" is decided when the data is known, and kept with its reason in the
model's `spec.json`.
"""


def markdown() -> str:
    """The page."""
    parts = [HEAD.format(rule=BY_RULE), "## Top level\n", _table(_rows(Recipe, tables=False))]
    for name, field in Recipe.model_fields.items():
        if (table := table_of(field.annotation)) is not None:
            parts.append(f"## `[{name}]`\n\n{_text(table.__doc__)}\n")
            parts.append(_table(_rows(table, tables=True)))
    parts.append("## `[model]`\n\nFurther fields of every network among the candidates.\n")
    parts.append(_table(_of_spec()))
    return "\n".join(parts)


def _rows(table: type[BaseModel], *, tables: bool, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    for name, field in table.model_fields.items():
        inner = table_of(field.annotation)
        if inner is not None and not tables:
            continue
        if inner is not None:
            is_list = get_origin(field.annotation) is tuple
            yield from _rows(inner, tables=True, prefix=f"{prefix}{name}{'[]' if is_list else ''}.")
            continue
        if not tables and name == "model":
            continue
        default = _shown(field.get_default(call_default_factory=True))
        yield f"{prefix}{name}", default, _text(field.description) + _choices(field.annotation)


def _choices(annotation: Any) -> str:
    """The values that a key may have, where they are few."""
    if get_origin(annotation) is not Literal:
        return ""
    return f" One of {', '.join(f'`{each}`' for each in get_args(annotation))}."


def _of_spec() -> Iterator[tuple[str, str, str]]:
    said = _attribute_docs(ModelSpec)
    for field in dataclasses.fields(ModelSpec):
        if field.name not in NOT_OF_A_MODEL_TABLE:
            default = BY_RULE if field.default is None else _shown(field.default)
            yield field.name, default, _text(said.get(field.name))


def _attribute_docs(value: type) -> dict[str, str]:
    """The texts below the fields of a class."""
    (body,) = ast.parse(inspect.getsource(value)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
        ):
            found[field.target.id] = str(text.value.value)
    return found


def _table(rows: Iterator[tuple[str, str, str]]) -> str:
    lines = [f"| `{name}` | {default} | {meaning} |" for name, default, meaning in rows]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *lines, ""])


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "needed"
    if default is None or default in ((), {}):
        return "–"
    if isinstance(default, tuple):
        default = [_whole(each) for each in default]
    return f"`{json.dumps(_whole(default))}`"


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _text(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
