"""`${NAME}` in a recipe stands for an environment variable, so that a secret stands in no file and no log."""

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from forecast.errors import SpecError

PATTERN = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
"""`${NAME}`, `${NAME:-default}`, and `$${` for a dollar and a brace that mean themselves."""

MASK = "***"


def expand(text: str) -> str:
    """The text with the variables' values. Raises SpecError naming a variable that is not set."""
    return PATTERN.sub(_value, text)


def names(text: str) -> list[str]:
    """The variables that a text needs: those without a default."""
    return [match[1] for match in PATTERN.finditer(text) if match[1] and match[2] is None]


def expand_all(values: Any, *, keep: frozenset[tuple[str, ...]], at: tuple[str, ...] = ()) -> Any:
    """Nested tables with the variables' values, except at the places in `keep` and below them."""
    if at in keep:
        return values
    if isinstance(values, str):
        return expand(values)
    if isinstance(values, Mapping):
        return {key: expand_all(value, keep=keep, at=(*at, str(key))) for key, value in values.items()}
    if isinstance(values, list):
        return [expand_all(value, keep=keep, at=at) for value in values]
    return values


def texts(values: Any) -> Iterator[str]:
    """Every text of nested tables."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, Mapping):
        for value in values.values():
            yield from texts(value)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from texts(value)


def masked(values: Any) -> Any:
    """Nested tables in which no address shows a password; what stands for a variable stays as written."""
    if isinstance(values, str):
        return masked_url(values)
    if isinstance(values, Mapping):
        return {key: masked(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [masked(value) for value in values]
    return values


def masked_url(text: str) -> str:
    """An address without its password and without the values of its query; any other text as it is."""
    if "://" not in text:
        return text
    try:
        parts = urlsplit(text)
        user, at, host = parts.netloc.rpartition("@")
    except ValueError:
        return text
    netloc = f"{user.split(':')[0]}:{MASK}@{host}" if at and ":" in user else parts.netloc
    query = re.sub(r"=[^&]*", _hidden, parts.query)
    if netloc == parts.netloc and query == parts.query:
        return text
    return urlunsplit(parts._replace(netloc=netloc, query=query))


def without(text: str, *secrets: str) -> str:
    """A message in which none of the secrets is readable; drivers like to repeat them."""
    for secret in secrets:
        if len(secret) > 3:
            text = text.replace(secret, MASK)
    return text


def _hidden(value: re.Match[str]) -> str:
    return value[0] if "${" in value[0] else f"={MASK}"


def _value(match: re.Match[str]) -> str:
    name = match[1]
    if name is None:
        return "${"
    found = os.environ.get(name)
    if found is None:
        found = match[2]
    if found is None:
        raise SpecError(
            f"the environment variable {name} is not set, and the recipe uses it as ${{{name}}}; set it, or "
            f"write ${{{name}:-DEFAULT}}"
        )
    return found
