"""The file of `podrelay submit -f`: read as a person meant it, or refused with line, place and what to write."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.cli.spec_file import MAX_FILE_BYTES, SpecFile, read_spec_file
from dispatcher.errors import InvalidSpecError
from dispatcher.plain_text import has_control
from dispatcher.spec import parse_spec


def read(path: Path, text: str | bytes) -> SpecFile:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_spec_file(str(path))


def refusal(path: Path, text: str | bytes) -> list[str]:
    """What is said of the file, by its reader or by the spec."""
    try:
        found = read(path, text)
        parse_spec(found.data, str(path), written=found.written)
    except InvalidSpecError as refused:
        return refused.problems
    return []


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]\n" for i in range(20)
)
MERGES = "a: &a {k: v}\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} {{<<: [{','.join([f'*{chr(97 + i)}'] * 10)}]}}\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("image: a\n b: [\n", "line 2, column 3: mapping values are not allowed here"),
        ("- image\n", "must be a mapping of the spec's fields, not a list"),
        ("[]", "must be a mapping of the spec's fields, not a list"),
        ("5", "must be a mapping of the spec's fields, not 5"),
        ("hello", 'must be a mapping of the spec\'s fields, not "hello"'),
        ("", "it is empty: write the spec's fields, one a line, as image: python:3.12"),
        ("\n# only words\n---\n", "it is empty: write"),
        ("a: 1\n---\nb: 2\n", "line 2, column 1: but found another document: a file holds one spec"),
        ('{"image": "a",\n "name" "b"}', "line 2, column 9: expected ',' or '}', but got '<scalar>'"),
        ("image: !!python/object:os.system a", "line 1, column 8: image: the tag tag:yaml.org,2002:python"[:30]),
        ("image: !!binary aGk=", "line 1, column 8: image: the tag !!binary is not taken"),
        ("labels: !!set {a, b}", "line 1, column 9: labels: the tag !!set is not taken"),
        ("image: a\nimage: b\n", "line 2, column 1: image: this name stands twice (first in line 1): leave one out"),
        ("{image: a, image: b}", "line 1, column 12: image: this name stands twice (first in line 1)"),
        (
            "pod_template:\n  spec:\n    containers:\n    - name: base\n      image: a\n      image: b\n",
            "line 6, column 7: pod_template.spec.containers[0].image: this name stands twice (first in line 5)",
        ),
        ('{"image": "a", "image": "b"}', "image: this name stands twice: leave one out"),
        ('{"a": [{"b": 1}, {"c": 1, "b": 2, "c": 3}]}', "a[1].c: this name stands twice"),
        ("labels: {<<: {a: b}, <<: {c: d}}", "line 1, column 22: labels.<<: this name stands twice"),
        ("labels: {<<: 5}", "line 1, column 14: labels.<<: must be a mapping, or a list of mappings"),
        ("env: {PORT: 8080, DEBUG: true}", 'env.PORT: must be a text, not a number: write "8080" in quotes'),
        ('{"env": {"V": 1.10}}', 'env.V: must be a text, not a number with a fraction (written 1.10): write "1.10"'),
        ("env: {V: 1.10}", 'env.V: must be a text, not a number with a fraction (written 1.10): write "1.10" in quo'),
        ("env: {M: 0755}", 'env.M: must be a text, not a number (written 0755): write "0755" in quotes'),
        ("env: {M: 0x1F}", 'env.M: must be a text, not a number (written 0x1F): write "0x1F" in quotes'),
        ("env: {M: 1_000}", 'env.M: must be a text, not a number (written 1_000): write "1_000" in quotes'),
        ("env: {D: yes}", 'env.D: must be a text, not true (written yes): write "yes" in quotes'),
        ("env: {D: Off}", 'env.D: must be a text, not false (written Off): write "Off" in quotes'),
        ("env: {N: ~}", 'env.N: must be a text, not null (written ~): write "" for an empty text, or "~" in quotes'),
        ("env: {N: }", 'env.N: must be a text, not null: write "" for an empty text'),
        (
            "env:\n- name: A\n  value: no\n",
            'env[0].value: must be a text, not false (written no): write "no" in quotes (t',
        ),
        ("args: [on]", 'args[0]: must be a text, not true (written on): write "on" in quotes'),
        ("env: {T: 22:22}", 'line 1, column 10: env.T: 22:22 is a number in base 60 to YAML: write "22:22" in quotes'),
        ("env: {T: 1:30.5}", "line 1, column 10: env.T: 1:30.5 is a number in base 60 to YAML"),
        ("env: {T: 2026-01-02}", 'line 1, column 10: env.T: 2026-01-02 is a date to YAML: write "2026-01-02" in quo'),
        ("env: {8080: a}", 'line 1, column 7: env: the name 8080 is no text to YAML (!!int): write "8080" in quotes'),
        ("env: {no: a}", 'line 1, column 7: env: the name no is no text to YAML (!!bool): write "no" in quotes'),
        ("env: {[a]: a}", "line 1, column 7: env: a name must be a text"),
        ("queue_timeout_s: .inf", "line 1, column 18: queue_timeout_s: .inf is no finite number"),
        ("affinity: {a: [.nan]}", "line 1, column 16: affinity.a[0]: .nan is no finite number"),
        ('{"affinity": {"a": [NaN]}}', "affinity.a[0]: nan is no finite number"),
        ('{"queue_timeout_s": 1e999}', "queue_timeout_s: inf is no finite number"),
        ("a: !!int x", "line 1, column 4: a: x is no int"),
        ("a: !!bool x", "line 1, column 4: a: x is no bool"),
        ("a: !!float ''", "line 1, column 4: a:  is no float"),
        ("a: &a [*a]", "line 1, column"),
        (LAUGHS, "more than 262144 values, with what aliases stand for"),
        (MERGES, "more than 262144 values, with what aliases stand for"),
        ("a: *nothing", "line 1, column 4: found undefined alias 'nothing'"),
        ("image: a\nname: b\a\n", "line 2: U+0007 must not stand in YAML"),
        ("image: a\0", "line 1: U+0000 must not stand in YAML"),
        ('image: "a\\0"', "image: a NUL"),
        ('{"image": "x", "args": ["\\ud800"]}', "args[0]: half a surrogate pair (U+D800)"),
        ('image: x\nargs: ["\\ud800"]', "args[0]: half a surrogate pair (U+D800)"),
        (b"image: a\nname: \xff\xfe", "line 2: cannot be read: byte 0xff is no UTF-8"),
        ("image: a".encode("utf-16"), "line 1: cannot be read: byte 0xff is no UTF-8"),
        (b"#" * (MAX_FILE_BYTES + 1), f"larger than {MAX_FILE_BYTES} bytes"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ('{"a": ' + "1" * 5000 + "}", "Exceeds the limit"),
        ("a: " + "1" * 5000, "line 1, column 4: a: "),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_was_not_meant_is_refused_with_its_place_and_what_to_write(
    tmp_path: Path, text: str | bytes, problem: str
) -> None:
    told = refusal(tmp_path / "job.yaml", text)
    assert any(problem in line for line in told), told
    assert len(told) <= 3
    assert not any(has_control(line) for line in told)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(InvalidSpecError, match=f"cannot be read: {why}"):
            read_spec_file(str(path))
    if os.geteuid():
        (tmp_path / "secret.yaml").touch(mode=0)
        with pytest.raises(InvalidSpecError, match="cannot be read: Permission denied"):
            read_spec_file(str(tmp_path / "secret.yaml"))


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ('{\n\t"image": "a"\n}', {"image": "a"}),
        ("\ufeffimage: a\n", {"image": "a"}),
        ('\ufeff{"image": "a"}', {"image": "a"}),
        ("%YAML 1.1\n---\nimage: a\n...\n", {"image": "a"}),
        (r'{"args": ["\ud83d\ude00", "\/"]}', {"args": ["😀", "/"]}),
        (r'args: ["\ud83d\ude00"]', {"args": ["😀"]}),
        ("a: {mode: 0644, big: 1e3, f: 1.5, t: yes, n: ~, s: 'no', e: ''}",
         {"a": {"mode": 420, "big": "1e3", "f": 1.5, "t": True, "n": None, "s": "no", "e": ""}}),
        ("b: &b {x: 1, y: 1}\na: {<<: *b, y: 2}", {"b": {"x": 1, "y": 1}, "a": {"x": 1, "y": 2}}),
        ("a: {<<: [{x: 1}, {x: 2, y: 2}], z: 3}", {"a": {"x": 1, "y": 2, "z": 3}}),
        ("a: {y: 2, <<: {x: 1, y: 1}}", {"a": {"x": 1, "y": 2}}),
        ('a: {"<<": x, =: y}', {"a": {"<<": "x", "=": "y"}}),
        ("a: &x [1]\nb: *x", {"a": [1], "b": [1]}),
        ('{"a": {"b": 1}, "c": {"b": 1.10}}', {"a": {"b": 1}, "c": {"b": 1.1}}),
        ("{image: a, name: b,}", {"image": "a", "name": "b"}),
    ],
    ids=lambda value: repr(value)[:30],
)  # fmt: skip
def test_what_is_clear_is_read(tmp_path: Path, text: str, data: dict[str, Any]) -> None:
    assert read(tmp_path / "job.yaml", text).data == data


def test_a_number_of_json_goes_on_as_the_number_it_is(tmp_path: Path) -> None:
    found = read(tmp_path / "job.json", '{"image": "x", "queue_timeout_s": 1.50, "affinity": {"a": 2.50}}')
    assert json.loads(parse_spec(found.data).encode())["affinity"] == {"a": 2.5}


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**18), 10**18) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)  # fmt: skip


@given(data=st.dictionaries(st.text(min_size=1, max_size=5), plain, max_size=4))
def test_what_other_programs_write_is_read_as_they_meant_it(
    tmp_path_factory: pytest.TempPathFactory, data: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "job.yaml"
    assert read(path, json.dumps(data)).data == data
    assert read(path, json.dumps(data, ensure_ascii=False)).data == data
    assert read(path, yaml.safe_dump(data)).data == data


@given(st.binary() | st.text(alphabet="{}[]:,-&*<!?|>'\"\\#%@ \n\tab01.~").map(str.encode))
def test_any_file_is_a_mapping_or_a_refusal(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    assert not any(has_control(line) for line in refusal(tmp_path_factory.getbasetemp() / "any.yaml", content))
