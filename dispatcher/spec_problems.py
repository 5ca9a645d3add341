"""What is wrong with a spec, in the words of whoever wrote it: the place, what belongs there, what is there.

pydantic finds a mistake by the Python type that does not fit (a "valid tuple", position 3 of ``env``); whoever wrote
YAML knows lists, and the name of a variable.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from pydantic import ValidationError

from dispatcher.plain_text import place_in
from dispatcher.pod_shape import Written, fits
from dispatcher.pod_types import OF_SPEC, TYPES, ListOf, MapOf, Object, Shape, Word
from dispatcher.shape_hints import another_shape, found

#: How many mistakes are listed, and for how many a near name is looked for, which is slow.
_MAX_PROBLEMS: Final = 10
_MAX_HINTS: Final = 3
#: What pydantic says of a value whose shape is wrong, rather than what it says.
_ABOUT_SHAPE: Final = frozenset(
    {"string_type", "dict_type", "tuple_type", "frozen_set_type", "model_type", "string_pattern_mismatch"}
)
#: The same of the spec's own words and numbers.
_WORDS: Final = {
    **dict.fromkeys(("bool_type", "bool_parsing"), Word.FLAG),
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), Word.LONG),
}
_NUMBERS: Final = frozenset({"float_type", "float_parsing"})
_SETS: Final = {"retry_on": ListOf(Word.TEXT)}
#: Fields that are a word or a list: pydantic tells what is wrong with both.
_WORD_OR_LIST: Final = {
    "container_logs": "must be all, or a list of containers' names, as [base]",
    "init_container_logs": "must be all, or a list of containers' names, as [base]",
}
#: The fields that each model knows; the spec's own under the empty name.
KnownFields = Mapping[str, Iterable[str]]


def problems_of(error: ValidationError, asked: Mapping[str, Any], known: KnownFields, written: Written) -> list[str]:
    """Write a line for each mistake, the first ten. ``asked``: the spec as it was given."""
    mistakes = error.errors(include_url=False)
    problems: dict[str, None] = {}
    for i, mistake in enumerate(mistakes[:_MAX_PROBLEMS]):
        problems |= dict.fromkeys(_lines(mistake, asked, known if i < _MAX_HINTS else {}, written))
    if len(mistakes) > _MAX_PROBLEMS:
        problems[f"and {len(mistakes) - _MAX_PROBLEMS} more"] = None
    return list(problems)


def nearest(name: str, known: Iterable[str]) -> str:
    """Hint at the name that was meant: `` (did you mean 'x'?)``, or nothing where none is near."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _lines(mistake: Any, asked: Mapping[str, Any], known: KnownFields, written: Written) -> list[str]:
    loc = tuple(mistake["loc"])
    if loc and loc[0] in _WORD_OR_LIST:
        return [f"{loc[0]}: {_WORD_OR_LIST[loc[0]]}"]
    place, kind, value = _place(loc, asked), mistake["type"], _value(loc, asked, mistake["input"])
    if kind == "extra_forbidden":
        names = known.get(loc[0] if len(loc) > 1 else "", ())
        return [f"{place}: unknown field{nearest(str(loc[-1]), names) if names else ''}"]
    shape, key = _shape_at(loc) if kind in _ABOUT_SHAPE else (_WORDS.get(kind), "")
    if value is None and len(loc) == 1 and shape is not None:
        return [f"{place}: null is not taken: leave it out"]
    if shape is not None and not fits(value, shape):
        return [another_shape(place, value, shape, written, key=key) + _variable(loc, asked)]
    if kind in _NUMBERS:
        return [f"{place}: must be a number, not {found(value)}"]
    message = mistake["msg"].removeprefix("Value error, ")
    return [f"{place}: {line}" if place else line for line in message.split("\n")]


def _place(loc: Sequence[str | int], asked: Mapping[str, Any]) -> str:
    """Write the place as it stands in what was given, where variables may be a mapping of names to values."""
    env = asked.get("env")
    if loc[:1] == ("env",) and isinstance(env, Mapping) and len(loc) > 1:
        name = list(env)[int(loc[1])]
        inner = loc[2:] if isinstance(env[name], Mapping) else ()
        loc = ("env", str(name), *inner)
    place = ""
    for part in loc:
        place = place_in(place, part)
    return place


def _value(loc: Sequence[str | int], asked: Mapping[str, Any], value: Any) -> Any:
    """Return what was given in this place: of variables in a mapping pydantic saw what was made of it."""
    match loc, asked.get("env"):
        case ("env", int(i), "value"), Mapping() as env if not isinstance(given := list(env.values())[i], Mapping):
            return given
    return value


def _variable(loc: Sequence[str | int], asked: Mapping[str, Any]) -> str:
    """Name the variable where its place is a number."""
    match loc, asked.get("env"):
        case ("env", int(i), "value"), (list() | tuple()) as members if isinstance(members[i], Mapping):
            return f" (the variable {place_in('', members[i].get('name'))})"
    return ""


def _shape_at(loc: Sequence[str | int]) -> tuple[Shape | None, str]:
    """Return what belongs in this place, and the field that it needs as a member of its list."""
    shape: Shape | None = {**OF_SPEC, **_SETS}.get(str(loc[0]), Word.TEXT) if loc else None
    key: str = ""
    for part in loc[1:]:
        match shape:
            case ListOf(member, field, needs_key=is_needed):
                shape, key = member, field if is_needed else ""
            case MapOf(member):
                shape, key = member, ""
            case Object(name):
                shape, key = TYPES[name].get(str(part)), ""
            case _:
                return None, ""
    return shape, key
