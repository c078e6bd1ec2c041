"""Faults of the settings in plain words: which key, in which line or variable, what is wrong, and what may be meant."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

PREFIX = "ISCL_NODE__"
_DELIMITER = "__"
_LONGEST_VALUE = 40

_HEADER = re.compile(r"\s*(\[\[?)\s*([\w.\-\"' ]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([\w.\-\"' ]+?)\s*=")

_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": 'must be text in quotes, as in "text"',
    "path_type": 'must be a path in quotes, as in "folder/file"',
    "tuple_type": "must be a list in brackets, as in [1, 2]",
    "model_type": "must be a table, as in {{ key = value }}",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} character(s)",
    "too_short": "must have at least {min_length} entry",
    "string_pattern_mismatch": "has characters or a form that it must not have",
    "value_error": "{error}",
}
"""What each kind of fault of pydantic means; what is in braces comes with the fault."""

Place = tuple[str | int, ...]


class Places:
    """Where each key of a TOML file stands."""

    def __init__(self, text: str) -> None:
        self._lines = dict(_keys(text))

    def line(self, place: Place) -> int | None:
        """The line of a key, or else of the table or the list that it is in, or would be in."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._lines:
                return self._lines[place[:length]]
        return None


def told(error: ValidationError, model: type[BaseModel], text: str) -> list[str]:
    """A line for each fault.

    Parameters
    ----------
    error : ValidationError
        Of ``model``.
    model : class
        What was read.
    text : str
        The TOML file, in which the variables of the environment have no line.
    """
    places = Places(text)
    return [_told(fault, model, places) for fault in error.errors()]


def unknown_variables(model: type[BaseModel]) -> list[str]:
    """A line for each variable of the environment that would set nothing."""
    names = list(model.model_fields)
    lines = []
    for variable in sorted(os.environ):
        first = variable.removeprefix(PREFIX).split(_DELIMITER)[0].lower()
        if variable.startswith(PREFIX) and first not in names:
            lines.append(f"{variable}: there is no setting {first!r}{_meant(first, names)}")
    return lines


def _told(fault: ErrorDetails, model: type[BaseModel], places: Places) -> str:
    place = fault["loc"]
    words = _words(fault, model)
    variable = _variable(place)
    if variable is not None:
        return f"{variable}: {words}"
    key, line = ".".join(map(str, place)), places.line(place)
    where = f"line {line}, " if line is not None else ""
    return f"{where}{key}: {words}" if key else words


def _words(fault: ErrorDetails, model: type[BaseModel]) -> str:
    place, kind = fault["loc"], fault["type"]
    if kind == "extra_forbidden":
        return _no_such_key(place, model)
    context = {name: _number(value) for name, value in fault.get("ctx", {}).items()}
    others = fault["msg"].replace("Input should be", "must be")
    words = _WORDS[kind].format_map(context) if kind in _WORDS else others
    allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
    return words + _instead(fault) + _meant(str(fault["input"]), allowed)


def _instead(fault: ErrorDetails) -> str:
    """What stands there; never of the database, whose URL may hold a password, nor of what is long or not a value."""
    value = fault["input"]
    is_shown = isinstance(value, str | int | float) and fault["loc"][-1:] != ("database_url",)
    is_told = fault["type"] in ("missing", "value_error")
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return f", not {text}" if is_shown and not is_told and len(text) <= _LONGEST_VALUE else ""


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _no_such_key(place: Place, model: type[BaseModel]) -> str:
    name = str(place[-1])
    meant = _meant(name, _fields(place[:-1], model))
    homes = [f"[{table}]" for table in model.model_fields if name in _fields((table,), model)]
    return f"there is no such key{meant or (f'; it belongs into {homes[0]}' if homes else '')}"


def _fields(place: Place, model: type[BaseModel]) -> list[str]:
    """The keys of a table."""
    found: type[BaseModel] | None = model
    for part in place:
        if isinstance(part, str) and found is not None:
            field = found.model_fields.get(part)
            found = None if field is None else next(_models(field.annotation), None)
    return list(found.model_fields) if found is not None else []


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _meant(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, list(known), 1)
    return f'; did you mean "{near[0]}"?' if near else ""


def _variable(place: Place) -> str | None:
    """The variable of the environment that set a key, or the table or the list that it is in."""
    variables = {name.upper(): name for name in os.environ}
    for length in range(len(place), 0, -1):
        name = PREFIX + _DELIMITER.join(str(part) for part in place[:length])
        if name.upper() in variables:
            return variables[name.upper()]
    return None


def _keys(text: str) -> Iterator[tuple[Place, int]]:
    """Each table and each key of a TOML file with its line; keys of an inline table stand in the line of that."""
    table: Place = ()
    counts: dict[Place, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        if header is not None:
            table = _parts(header[2])
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            yield table, number
        elif key is not None:
            yield (*table, *_parts(key[1])), number


def _parts(name: str) -> Place:
    return tuple(part.strip().strip("\"'") for part in name.split("."))
