"""Fields of KServe's objects, as the generated classes of its Python package name them. The package's text is read and
none of its code is run, so that what it requires need not be there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LIST, _MAP = re.compile(r"list\[(.+)\]"), re.compile(r"dict\(str, (.+)\)")
_PLAIN: dict[str, type | tuple[type, ...]] = {"str": str, "int": int, "bool": bool, "float": (int, float)}


@dataclass(frozen=True)
class KServeFields:
    """The classes in ``models``, a folder of the installed package."""

    models: Path
    _known: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def problems(self, item: Mapping[str, Any]) -> list[str]:
        """Fields of an object that KServe does not have, and values of another type. It does not look into fields of
        Kubernetes' own types, such as containers."""
        version = item["apiVersion"].rpartition("/")[2].capitalize()
        return list(self._problems(item, f"{version}{item['kind']}", item["kind"]))

    def _problems(self, value: Any, kind: str, place: str) -> Iterator[str]:
        if plain := _PLAIN.get(kind):
            if not isinstance(value, plain) or (isinstance(value, bool) and kind != "bool"):
                yield f"{place} is {value!r}, no {kind}"
        elif of := _LIST.fullmatch(kind):
            for number, each in enumerate(value):
                yield from self._problems(each, of[1], f"{place}[{number}]")
        elif of := _MAP.fullmatch(kind):
            for name, each in value.items():
                yield from self._problems(each, of[1], f"{place}[{name}]")
        elif (fields := self._fields(kind)) is not None:
            for name, each in value.items():
                if name in fields:
                    yield from self._problems(each, fields[name], f"{place}.{name}")
                else:
                    yield f"{place} has no field {name}"

    def _fields(self, kind: str) -> Mapping[str, str] | None:
        """Types by the names in YAML of a class of KServe's, None for Kubernetes' own."""
        if not kind.startswith(("V1alpha1", "V1beta1")):
            return None
        if kind not in self._known:
            name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", kind).lower()
            self._known[kind] = _read(self.models / f"{name}.py", kind)
        return self._known[kind]


def _read(module: Path, kind: str) -> Mapping[str, str]:
    body = ast.parse(module.read_text()).body
    (found,) = [node for node in body if isinstance(node, ast.ClassDef) and node.name == kind]
    values = {ast.unparse(node.targets[0]): node.value for node in found.body if isinstance(node, ast.Assign)}
    types, names = (ast.literal_eval(values[name]) for name in ("openapi_types", "attribute_map"))
    return {names[name]: types[name] for name in types}
