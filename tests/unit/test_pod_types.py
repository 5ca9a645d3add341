"""The table of the API's types is Kubernetes' own."""

import re

import pytest
from kubernetes.client import models

from dispatcher.pod_types import TYPES, ListOf, MapOf, Object, Shape, Word

#: What the client has for ours: it knows fewer kinds of text and number.
CLIENTS_WORD = {
    **{word: {"str", "datetime"} for word in (Word.TEXT, Word.LINE, Word.LABEL, Word.SUBDOMAIN, Word.QUANTITY)},
    **{word: {"int"} for word in (Word.INT, Word.LONG)},
    **{word: {"object"} for word in (Word.PORT, Word.ANY)},
    Word.FLAG: {"bool"},
}
OURS = {"JobSpec", "PodTemplate"}


def model_of(name: str) -> type:
    found: type = getattr(models, f"V1{name}", None) or getattr(models, f"CoreV1{name}")
    return found


def is_same(shape: Shape, clients: str) -> bool:
    match shape:
        case Word():
            return clients in CLIENTS_WORD[shape]
        case Object(name):
            return re.sub("^(Core)?V1", "", clients) == name
        case ListOf(member):
            found = re.fullmatch(r"list\[(.*)\]", clients)
        case MapOf(member):
            found = re.fullmatch(r"dict[\[(]str, (.*)[\])]", clients)
    return found is not None and is_same(member, found[1])


@pytest.mark.parametrize("name", sorted(TYPES.keys() - OURS))
def test_a_type_has_the_fields_that_the_kubernetes_client_knows(name: str) -> None:
    model = model_of(name)
    clients = {model.attribute_map[field]: kind for field, kind in model.openapi_types.items()}  # type: ignore[attr-defined]
    assert TYPES[name].keys() == clients.keys()
    assert [field for field, shape in TYPES[name].items() if not is_same(shape, clients[field])] == []


def test_every_type_that_a_field_names_is_there() -> None:
    def named(shape: Shape) -> set[str]:
        match shape:
            case Object(name):
                return {name}
            case ListOf(member) | MapOf(member):
                return named(member)
            case Word():
                return set()

    assert set().union(*(named(shape) for fields in TYPES.values() for shape in fields.values())) <= TYPES.keys()


def test_what_tells_a_lists_members_apart_is_a_field_of_theirs() -> None:
    lists = [shape for fields in TYPES.values() for shape in fields.values() if isinstance(shape, ListOf) and shape.key]
    assert lists
    for shape in lists:
        assert isinstance(shape.member, Object)
        assert shape.key in TYPES[shape.member.type]
