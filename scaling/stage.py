"""A stage: one node of a plan, with an identity that covers exactly what changes its result.

Identity = kind + the kind's version (scaling.kinds) + config + the digests of the inputs, and of the plug-ins that its
kind and its problem family come from, as canonical JSON, sha256, ten hex digits. Paths, devices, worker counts and log
intervals never enter it. Bump a version in the commit that changes what the stage computes; a refactoring does not.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from scaling.config.problems import family_source
from scaling.kinds import kind_of

DIGEST_LENGTH = 10
CHECKPOINTS = "checkpoints"  # survives a killed stage in its working directory; never part of an artifact
# A stage's own account of where its result came from, a JSON object in this file, joins the provenance in its record.
PROVENANCE_FILE = "provenance.json"


@dataclass(frozen=True)
class Stage:
    """A pure function's call: `kind` applied to `config` and the artifacts of `inputs`."""

    kind: str
    config: Mapping[str, Any]  # what changes the result; JSON values only
    inputs: Mapping[str, "Stage"] = field(default_factory=dict)  # input name -> the stage that makes it
    slug: str = ""  # readable, e.g. "d256-s0"; never part of the identity
    execution: Mapping[str, Any] = field(default_factory=dict)  # more for the function; never part of the identity

    @cached_property
    def digest(self) -> str:
        """Ten hex digits; equal for two stages exactly when their results are the same by construction."""
        kind = kind_of(self.kind)
        identity = {
            "kind": self.kind,
            "version": kind.version,
            "config": self.config,
            "inputs": {name: stage.digest for name, stage in self.inputs.items()},
        }
        if kind.source:
            identity["source"] = kind.source
        if family := family_source(self.config):
            identity["family_source"] = family
        return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:DIGEST_LENGTH]

    @property
    def plugins(self) -> tuple[str, ...]:
        """Digests of the plug-ins that compute it: of its kind, its problem family, and the verifier of its rows."""
        problems = self.config.get("problems")
        verifier = problems.get("verifier") if isinstance(problems, Mapping) else None
        sources = (kind_of(self.kind).source, family_source(self.config), str(verifier or "").partition("@")[2])
        return tuple(dict.fromkeys(filter(None, sources)))

    @cached_property
    def name(self) -> str:
        """Directory of the artifact below the store's root: `<kind>/<slug>-<digest>`."""
        slug = re.sub(r"[^A-Za-z0-9_.]+", "-", self.slug).strip("-")
        return f"{self.kind}/{slug}-{self.digest}" if slug else f"{self.kind}/{self.digest}"

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stage) and self.digest == other.digest


class StageError(RuntimeError):
    """A stage failed; carries the stage's name."""

    def __init__(self, stage_name: str, message: str) -> None:
        super().__init__(f"{stage_name}: {message}")
        self.stage_name = stage_name


def canonical_json(value: object) -> str:
    """The one JSON text of a value: keys sorted, no spaces. Raises TypeError or ValueError on other values."""
    return json.dumps(_canonical(value, "value"), sort_keys=True, separators=(",", ":"), allow_nan=False)


def in_order(stages: Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages and all their ancestors, each once, inputs before the stages that need them."""
    ordered: dict[str, Stage] = {}

    def visit(stage: Stage) -> None:
        if stage.digest in ordered:
            return
        for parent in stage.inputs.values():
            visit(parent)
        ordered[stage.digest] = stage

    for stage in stages:
        visit(stage)
    return tuple(ordered.values())


def _canonical(value: object, where: str) -> object:
    """The value in plain dicts and lists; raises on values without canonical JSON."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}; a stage's config holds finite numbers only.")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{where} has the key {key!r}; keys are strings.")
        return {key: _canonical(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{where}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}; a stage's config holds JSON values only.")
