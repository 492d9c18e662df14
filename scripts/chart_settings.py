"""Write what helm/shoplens knows of the code: the settings' defaults and JSON schema, the rights of `shoplens cluster`.

    python -m scripts.chart_settings [--check]

The chart merges `config` of its values over the defaults, and refuses what the schema does not know.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import yaml

from serve_app.cluster.rights import RULES, Scope
from serve_app.config import SECRETS, Config

CHART = Path(__file__).parents[1] / "helm" / "shoplens"
DEFAULTS = CHART / "files" / "settings.yaml"
SCHEMA = CHART / "values.schema.json"
RIGHTS = CHART / "files" / "rights.yaml"
HEAD = "# Made of {} by python -m scripts.chart_settings.\n"

HOME = "/home/shoplens"
IN_A_CLUSTER: dict[str, Any] = {
    "data_dir": f"{HOME}/data",
    "http": {"host": "0.0.0.0", "port": 8000, "metrics_port": 8080},  # noqa: S104 - a pod's own network
    "detector": {"weights": "/opt/shoplens/weights/yolo26n.pt"},
    "page": {"detector": "/opt/shoplens/browser"},
}
"""What the chart's ports, volumes and image fix; it stands in no value."""
SET_BY_CHART = {
    "": {"data_dir", "log_file"},
    "http": {"host", "port", "metrics_port"},
    "auth": {"keys_file", "anonymous_search", "public", "origins", "trusted_proxies"},
    "milvus": {"uri", "more_uris", "user", "password_file"},
}
"""Settings that are no key of the chart's `config`, by section; secrets are none either."""


def main() -> int:
    """Write the files; with --check exit with 1 where one is out of date, and write nothing."""
    arguments = _arguments()
    stale = [path for path, text in wanted().items() if path.read_text(encoding="utf-8") != text]
    for path in stale:
        if arguments.check:
            print(f"{path} is out of date: run python -m scripts.chart_settings")
        else:
            path.write_text(wanted()[path], encoding="utf-8")
    return int(bool(stale) and arguments.check)


def wanted() -> dict[Path, str]:
    """Return what each file has to hold."""
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    schema["properties"]["config"] = config_schema()
    return {
        DEFAULTS: _made_of("serve_app/config.py", defaults()),
        RIGHTS: _made_of("serve_app/cluster/rights.py", {scope: rules(scope) for scope in get_args(Scope)}),
        SCHEMA: json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
    }


def _made_of(source: str, values: Any) -> str:
    return HEAD.format(source) + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def rules(scope: Scope) -> list[dict[str, Any]]:
    """Return the rules of a Role for what the commands read there."""
    return [
        {"apiGroups": [rule.group], "resources": list(rule.resources), "verbs": list(rule.verbs)}
        for rule in RULES
        if rule.scope == scope
    ]


def defaults() -> dict[str, Any]:
    """Return every setting but secrets, as it is in a cluster where nobody sets another."""
    values: dict[str, Any] = Config.model_construct(**_sections()).model_dump(mode="json", by_alias=True)
    for section, name in SECRETS:
        del values[section][name]
    return values


def _sections() -> dict[str, Any]:
    """Return the settings of a cluster, each section validated; the environment has no say in them."""
    made: dict[str, Any] = {"importing": Config.model_fields["importing"].default}
    for name, value in IN_A_CLUSTER.items():
        default = Config.model_fields[name].default
        made[name] = type(default)(**value) if isinstance(value, dict) else Path(value)
    return made


def config_schema() -> dict[str, Any]:
    """Return the schema of the chart's `config`, without references, and without what the chart sets."""
    whole = Config.model_json_schema(by_alias=True)
    schema: dict[str, Any] = _resolved(whole, whole.pop("$defs"))
    for section, names in SET_BY_CHART.items():
        part = schema["properties"][section] if section else schema
        for name in names:
            del part["properties"][name]
    for section, name in SECRETS:
        del schema["properties"][section]["properties"][name]
    return schema | {"title": "Settings", "description": "As in a file of settings."}


def _resolved(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_resolved(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _resolved(definitions[node["$ref"].rpartition("/")[2]], definitions)
    # A default would be one more thing to keep current, and titles repeat the names.
    return {
        key: {name: _resolved(each, definitions) for name, each in value.items()}
        if key == "properties"
        else _resolved(value, definitions)
        for key, value in node.items()
        if key not in ("default", "title")
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.chart_settings", description=str(__doc__).splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
