"""Parameters of typed functions: what their annotations say, as JSON Schema."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from envpool.errors import EnvPoolError
from envpool.schemas import JsonSchema, Wrong, brief, read, shown

_KINDS = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_KNOWN = "str, int, float, bool, None, Literal, Enum, list, dict, TypedDict, a dataclass or a union of these"


@dataclass(frozen=True, eq=False)
class Parameter:
    """A parameter of a tool.

    Attributes:
        name: how it is called.
        schema: which values it takes.
        default: what it is if it is left out, as a value of JSON; ``...`` if whoever carries the call out decides that.
        optional: whether it may be left out.
        description: what there is to say of it; empty if nothing.
    """

    name: str
    schema: JsonSchema
    default: Any
    optional: bool
    description: str
    _adapter: TypeAdapter[Any]

    def __str__(self) -> str:
        default = "" if not self.optional else " = ..." if self.default is ... else f" = {self.default!r}"
        return f"{self.name}: {shown(self.schema)}{default}"

    def read(self, value: Any) -> Any:
        """Reads an argument, which stays a value of JSON.

        Raises:
            Wrong: it is something else.
        """
        found = read(self.schema, value)
        self.made(found)
        return found

    def made(self, value: Any) -> Any:
        """Makes what the function takes of an argument: a member of an ``Enum``, an object of a dataclass.

        Raises:
            Wrong: the type refuses it.
        """
        try:
            return self._adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            short = first["type"] == "missing"  # of a list, for fields of objects are looked at before
            keys = first["loc"][:-1] if short else first["loc"]
            place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
            words = f"is {brief(first['input'])}: {first['msg'][:1].lower()}{first['msg'][1:]}"
            raise Wrong("is too short" if short else words, place) from None


def parameters_of(name: str, function: Callable[..., Any]) -> list[Parameter]:
    """Reads the parameters of a tool from its signature, without ``self``.

    Raises:
        EnvPoolError: one has no type, a type that JSON does not have, or cannot be given by its name.
    """
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise EnvPoolError(f"tool {name!r}: a type cannot be found ({error}): define it in the module") from None
    found: list[Parameter] = []
    for place, parameter in enumerate(inspect.signature(function).parameters.values()):
        if place == 0 and parameter.name == "self":
            continue
        if parameter.kind not in _KINDS:
            raise EnvPoolError(f"tool {name!r}: parameter {str(parameter)!r} needs a name of its own to be called by")
        if parameter.name not in hints:
            raise EnvPoolError(f"tool {name!r}: give {parameter.name!r} a type, as in '{parameter.name}: str'")
        found.append(_parameter(name, parameter, hints[parameter.name]))
    return found


def _parameter(name: str, parameter: inspect.Parameter, hint: Any) -> Parameter:
    trouble = f"tool {name!r}: parameter {parameter.name!r}"
    optional = parameter.default is not inspect.Parameter.empty
    default: Any = parameter.default if optional else ...
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
        whole = adapter.json_schema()
        if not isinstance(default, EllipsisType):
            default = adapter.dump_python(default, mode="json", warnings="error")
    except PydanticUserError as error:
        cure = "use typing_extensions.TypedDict" if error.code == "typed-dict-version" else f"use {_KNOWN}"
        raise EnvPoolError(f"{trouble} has a type that JSON does not have, {hint!r}: {cure}") from None
    except (PydanticSerializationError, ValueError):
        raise EnvPoolError(f"{trouble} has a default that is not of its type, {default!r}") from None
    schema = _inlined(whole, whole.get("$defs", {}), trouble)
    notes = [note for note in getattr(hint, "__metadata__", ()) if isinstance(note, str)]
    description = notes[0] if notes else str(schema.get("description", ""))
    if description:
        schema = {**schema, "description": description}
    if not isinstance(default, EllipsisType) and default is not None:
        schema = {**schema, "default": default}
    return Parameter(parameter.name, schema, default, optional, description, adapter)


def _inlined(schema: Any, definitions: Mapping[str, Any], trouble: str, above: tuple[str, ...] = ()) -> Any:
    """Writes a schema of pydantic's without titles, and with its definitions where they are used.

    Raises:
        EnvPoolError: a type holds itself.
    """
    if isinstance(schema, list):
        return [_inlined(each, definitions, trouble, above) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        if name in above:
            raise EnvPoolError(f"{trouble} has a type that holds itself, {name}: name how deep it goes, or use dict")
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _inlined({**definitions[name], **rest}, definitions, trouble, (*above, name))
    written: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties":
            written[key] = {name: _inlined(field, definitions, trouble, above) for name, field in value.items()}
        elif key in ("default", "enum", "const"):
            written[key] = value
        elif key not in ("title", "$defs"):
            written[key] = _inlined(value, definitions, trouble, above)
    return written
