"""YAML as plain data, with what YAML lets pass refused: names that stand twice, values that are no JSON, bombs."""

import math
from typing import Any, Final

import yaml
from yaml.constructor import SafeConstructor
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from dispatcher.bounded_json import MAX_DEPTH
from dispatcher.plain_text import place_in, shown

_TAG: Final = "tag:yaml.org,2002:"
_TEXTS: Final = ("!", f"{_TAG}str", f"{_TAG}value")
_MERGE: Final = f"{_TAG}merge"


class YamlReader:
    """Reads one document. ``written``: how values that are no texts stand in it, by place."""

    def __init__(self, *, max_values: int) -> None:
        self.written: dict[str, str] = {}
        self._left = max_values
        self._max_values = max_values
        self._scalars = SafeConstructor()

    def read(self, text: str) -> Any:
        """Return the document as JSON has it; None where there is nothing.

        Raises:
            ValueError: it is no YAML, or has something that is not taken; with line and place.
        """
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            what = error.problem or error.context or "no YAML"
            if "another document" in what:
                what += ": a file holds one spec"
            raise ValueError(f"{_at(mark)}{what}") from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise ValueError(f"line {line}: U+{error.character:04X} must not stand in YAML") from None
        except yaml.YAMLError as error:
            raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None
        return None if root is None else self._value(root, "", 0)

    def _value(self, node: Node, place: str, depth: int) -> Any:
        self._left -= 1
        if self._left < 0:
            raise _refused(node, place, f"more than {self._max_values} values, with what aliases stand for")
        if depth > MAX_DEPTH:
            raise _refused(node, place, f"nested deeper than {MAX_DEPTH} levels")
        match node:
            case ScalarNode():
                return self._scalar(node, place)
            case SequenceNode(tag=tag) if tag == f"{_TAG}seq":
                return [self._value(item, place_in(place, i), depth + 1) for i, item in enumerate(node.value)]
            case MappingNode(tag=tag) if tag == f"{_TAG}map":
                return self._mapping(node, place, depth)
        what = f"the tag {_shown_tag(node)} is not taken: write plain texts, numbers, lists, mappings"
        raise _refused(node, place, what)

    def _mapping(self, node: MappingNode, place: str, depth: int) -> dict[str, Any]:
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            is_merge = key_node.tag == _MERGE
            key = "<<" if is_merge else self._key(key_node, place)
            if first := lines.get(key):
                where = f"this name stands twice (first in line {first}): leave one out"
                raise _refused(key_node, place_in(place, key), where)
            lines[key] = key_node.start_mark.line + 1
            if is_merge:
                merged = self._merged(value_node, place, depth)
            else:
                own[key] = self._value(value_node, place_in(place, key), depth + 1)
        return {**merged, **own}

    def _merged(self, node: Node, place: str, depth: int) -> dict[str, Any]:
        """Return what ``<<`` brings: of several mappings the first that has a name wins."""
        members = node.value if isinstance(node, SequenceNode) else [node]
        found: dict[str, Any] = {}
        for member in reversed(members):
            if not isinstance(member, MappingNode):
                raise _refused(member, place_in(place, "<<"), "must be a mapping, or a list of mappings")
            found.update(self._value(member, place, depth + 1))
        return found

    def _key(self, node: Node, place: str) -> str:
        if not isinstance(node, ScalarNode):
            raise _refused(node, place, "a name must be a text")
        if node.tag not in _TEXTS:
            what = _shown_tag(node)
            raise _refused(
                node, place, f"the name {shown(node.value)} is no text to YAML ({what}): write {_quoted(node)}"
            )
        return _whole(node.value)

    def _scalar(self, node: ScalarNode, place: str) -> Any:
        if node.tag in _TEXTS:
            return _whole(node.value)
        kind = node.tag.removeprefix(_TAG)
        if kind == "timestamp":
            raise _refused(node, place, f"{shown(node.value)} is a date to YAML: write {_quoted(node)}")
        if kind in ("int", "float") and ":" in node.value:
            raise _refused(node, place, f"{shown(node.value)} is a number in base 60 to YAML: write {_quoted(node)}")
        if kind not in ("null", "bool", "int", "float"):
            raise _refused(
                node, place, f"the tag {_shown_tag(node)} is not taken: write a text, a number, true or false"
            )
        try:
            value = getattr(self._scalars, f"construct_yaml_{kind}")(node)
        except (ValueError, KeyError, IndexError):
            raise _refused(node, place, f"{shown(node.value)} is no {kind}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise _refused(node, place, f"{shown(node.value)} is no finite number: as a text write {_quoted(node)}")
        self.written[place] = node.value
        return value


def _whole(text: str) -> str:
    """Join the halves of characters that JSON writes as two escapes; what is left over the spec refuses."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def _quoted(node: ScalarNode) -> str:
    return f'"{shown(node.value)}" in quotes'


def _shown_tag(node: Node) -> str:
    return shown(node.tag.replace(_TAG, "!!"))


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


def _refused(node: Node, place: str, why: str) -> ValueError:
    return ValueError(f"{_at(node.start_mark)}{place}: {why}" if place else f"{_at(node.start_mark)}{why}")
