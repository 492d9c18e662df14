"""The rules of a shop, in a file that may change while the service runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from serve_app.config import RankingConfig
from serve_app.errors import BadConfig, BadParameter
from serve_app.filters import Filter, Scalar
from serve_app.rules import Action, Rule, Rules
from serve_app.watched_file import WatchedFile

MOST_BYTES = 2**20
MOST_RULES = 200
"""Each is held against each product that is found."""


def _several(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


class RuleBody(BaseModel):
    """A rule as it stands in the file; it holds for products that are, and have, all that it names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=80)
    action: Action
    product: Annotated[tuple[str, ...], BeforeValidator(_several)] = Field((), max_length=1000)
    category: Annotated[tuple[str, ...], BeforeValidator(_several)] = ()
    attributes: dict[str, Annotated[tuple[Scalar, ...], BeforeValidator(_several)]] = {}

    def rule(self) -> Rule:
        """Return the rule; raises BadParameter for what no product can have."""
        if not (self.product or self.category or self.attributes):
            raise BadParameter("it names no product, category or attribute")
        wanted = Filter(categories=self.category, attributes=tuple(self.attributes.items()))
        return Rule(self.name, self.action, frozenset(self.product), wanted)


_RULES = TypeAdapter(Annotated[list[RuleBody], Field(max_length=MOST_RULES)])


def read_rules(path: Path) -> tuple[Rule, ...]:
    """Return the rules of a file, none where it is not there; raises BadConfig where it can't be used."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise BadConfig(f"the rules in {path} take more than {MOST_BYTES >> 20} MiB")
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadConfig(f"the rules in {path} can't be read: {error}") from error
    try:
        bodies = _RULES.validate_python([] if values is None else values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "all"
        raise BadConfig(f"the rules in {path} can't be used: {place}: {first['msg']}") from error
    return tuple(_rule(path, body) for body in bodies)


def _rule(path: Path, body: RuleBody) -> Rule:
    try:
        return body.rule()
    except BadParameter as error:
        raise BadConfig(f"the rule {body.name!r} in {path} can't be used: {error.message}") from error


def watch_rules(path: Path, ranking: RankingConfig, *, aside: bool = False) -> WatchedFile[Rules]:
    """Return the rules of a file at each time; those of the settings alone until they can be read.

    A file of MOST_BYTES takes seconds to be read, so an event loop has it read `aside`.
    """

    def read(path: Path) -> Rules:
        return Rules(read_rules(path), ranking.sold_out_last, ranking.rules_band)

    return WatchedFile(path, read, "rules", otherwise=Rules((), ranking.sold_out_last, ranking.rules_band), aside=aside)
