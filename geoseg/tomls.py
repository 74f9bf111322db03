"""TOML files to checked values: what is wrong is told with file, line and the nearest name that exists."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, ModelWrapValidatorHandler, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from geoseg.errors import ConfigError
from geoseg.paths import expanded

Values = TypeVar("Values", bound=BaseModel)
Keys = tuple[str | int, ...]
"""Where a value stands: names of tables and keys, and numbers within lists."""


def read_toml(path: str | Path, *, example: str) -> tuple[str, dict[str, Any]]:
    """The text of a file and its values.

    Args:
        path: a local file.
        example: a file that shows how it is done.

    Raises:
        ConfigError: no such file, not UTF-8, not TOML.
    """
    try:
        text = expanded(path).read_bytes().decode("utf-8-sig")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigError(
            f"the settings file {path}, which cannot be read ({error.strerror})", allowed="a TOML file"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(
            f"{path}, which is not valid TOML ({error})",
            allowed=f"UTF-8 text with each key once, as in {example}",
            remedy="Mend that line",
        ) from error


def checked(
    kind: type[Values], values: Any, handler: ModelWrapValidatorHandler[Values], info: ValidationInfo
) -> Values:
    """What settings are made by, as the outermost wrap validator of ``kind``: whoever makes them is told what is wrong
    in the same words, with the line where the validation's context is the file (``path`` and ``text``).

    Raises:
        ConfigError: pydantic's error, explained.
    """
    try:
        return handler(values)
    except ValidationError as error:
        file = {"path": "", "text": "", **(info.context or {})}
        raise explained(error, file["path"], file["text"], kind) from error


def said(problem: ErrorDetails) -> str:
    """What pydantic says of a value, without what it puts before the words of our own rules."""
    if problem["type"] == "model_type":
        return "a table of keys and values"
    if problem["type"] == "union_tag_not_found":
        return f"a table with a key {problem['ctx']['discriminator']}"
    if problem["type"] == "union_tag_invalid":
        given = problem["ctx"]
        return f"tables whose {given['discriminator']} is one of {given['expected_tags']}, not {given['tag']!r:.80}"
    return problem["msg"].removeprefix("Value error, ")


def explained(error: ValidationError, path: str, text: str, kind: type[BaseModel]) -> ConfigError:
    """The first thing that is wrong, with its line; how many more there are. Without a ``path`` it is of no file."""
    # An unknown key first: a misspelt name also leaves the true one missing.
    problems = sorted(_own(error.errors(include_url=False)), key=lambda found: found["type"] != "extra_forbidden")
    first = problems[0]
    keys, section = _place(first["loc"], kind)
    line = _line_of(text, keys)
    where = f"{path}, line {line}: " if line and keys else f"{path}: " if path else ""
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    name = ".".join(key for key in keys if isinstance(key, str))
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(keys[-1]), _every_name(section, kind), n=1, cutoff=0.55)
        return ConfigError(
            f"{where}{name} is no setting{more}",
            allowed=listed(section),
            remedy=f"Did you mean {_where_is(near[0], section, kind)}?" if near else "Take the line out",
        )
    if first["type"] == "missing" and isinstance(keys[-1], int):  # of a list that ends too early
        ends = [each for each in problems if each["type"] == "missing" and each["loc"][:-1] == first["loc"][:-1]]
        more = f" (and {len(problems) - len(ends)} more)" if len(problems) > len(ends) else ""
        wanted = max(int(each["loc"][-1]) for each in ends) + 1
        return ConfigError(f"{where}{name} = {first['input']!r:.200}{more}", allowed=f"a list of {wanted}")
    if first["type"] == "missing":
        return ConfigError(f"{where}{name} is missing{more}", remedy="It has no default: say it")
    rule = said(first)
    if first["type"] == "value_error" and not keys:  # a rule over all tables, which names them
        return ConfigError(f"{where}{rule}{more}")
    got = f"{name} = " if name else "settings that are "
    allowed = (rule[0].lower() + rule[1:]).replace("a valid tuple", "a list, [...]")  # TOML knows no tuples
    return ConfigError(f"{where}{got}{first['input']!r:.200}{more}", allowed=allowed)


def _own(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """Without lists that pydantic calls too short because it left out the tables in them that are wrong themselves."""
    places = [problem["loc"] for problem in problems]
    return [
        problem
        for problem, place in zip(problems, places, strict=True)
        if problem["type"] != "too_short" or not any(other[:-1][: len(place)] == place for other in places)
    ]


def listed(section: type[BaseModel]) -> str:
    """The names that a table may hold."""
    return ", ".join(name for name, field in section.model_fields.items() if not field.exclude)


def _place(loc: tuple[int | str, ...], kind: type[BaseModel]) -> tuple[Keys, type[BaseModel]]:
    """Keys as they stand in the file, and the table that holds the last one.

    Where a table is one of several kinds, pydantic puts the name of the kind into the place; no line has it.
    """
    keys: list[str | int] = []
    models: list[type[BaseModel]] = [kind]
    for part in loc:
        of_kind = [model for model in models if part in _tags(model)] if len(models) > 1 else []
        if of_kind:
            models = of_kind
            continue
        keys.append(part)
        if isinstance(part, str) and part in models[0].model_fields:
            models = _tables(models[0].model_fields[part].annotation) or models
    return tuple(keys), models[0]


def _tables(annotation: Any) -> list[type[BaseModel]]:
    """The kinds of table that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [table for part in get_args(annotation) for table in _tables(part)]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """What says in a table that it is of this kind."""
    fields = (field.annotation for field in model.model_fields.values())
    return tuple(value for each in fields if get_origin(each) is Literal for value in get_args(each))


def _every_name(section: type[BaseModel], kind: type[BaseModel]) -> list[str]:
    """Names valid here, then those of all sections: a key in the wrong section is a common slip."""
    names = list(section.model_fields)
    for field in kind.model_fields.values():
        for table in _tables(field.annotation):
            names += [name for name in table.model_fields if name not in names]
    return names


def _where_is(name: str, section: type[BaseModel], kind: type[BaseModel]) -> str:
    if name in section.model_fields:
        return name
    fields = kind.model_fields
    home = next(k for k in fields if any(name in table.model_fields for table in _tables(fields[k].annotation)))
    return f"{name} in [{home}]"


_HEADER = re.compile(r"^\s*(\[+)\s*([^\]]+?)\s*\]+")
_KEY = re.compile(r"""^\s*(["']?[A-Za-z0-9_-]+["']?(?:\s*\.\s*["']?[A-Za-z0-9_-]+["']?)*)\s*=""")


def _line_of(text: str, keys: Keys) -> int | None:
    """The line (from 1) that sets ``keys`` or, where that is inside a value, the nearest one above it."""
    section: Keys = ()
    best: tuple[int, int] | None = None
    seen: Counter[Keys] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            section = found = _split(header[2])
            if header[1] == "[[":
                section = found = (*found, seen[found])
                seen[section[:-1]] += 1
        elif key := _KEY.match(line):
            found = (*section, *_split(key[1]))
        else:
            continue
        if keys[: len(found)] == found and (best is None or len(found) > best[0]):
            best = len(found), number
        elif found[: len(keys)] == keys and best is None:
            best = len(keys), number
    return best[1] if best else None


def _split(dotted: str) -> Keys:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
