"""``/docs``: the OpenAPI document as a page that loads nothing from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

PATH = "/docs"

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}"
    "code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f5f5f5;padding:.7rem;overflow:auto}"
    "h2{font-size:1.05rem;margin-top:2rem;border-top:1px solid #ddd;padding-top:1rem}"
    "table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"
)


def docs_page(document: dict[str, Any]) -> str:
    """The page for an OpenAPI document."""
    info = document["info"]
    parts = [
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info.get('description', ''))}</p>",
        '<p>The whole document: <a href="openapi.json">openapi.json</a></p>',
    ]
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(method.upper(), path, operation))
    parts.append("<h2>Schemas</h2>")
    for name, schema in document.get("components", {}).get("schemas", {}).items():
        shown = escape(json.dumps(schema, indent=1, ensure_ascii=False))
        parts.append(f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary><pre>{shown}</pre></details>')
    return "\n".join(parts)


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = []
    for parameter in operation.get("parameters", ()):
        rows.append((f"{parameter['in']} <code>{escape(parameter['name'])}</code>", parameter.get("description", "")))
    for content in operation.get("requestBody", {}).get("content", {}).values():
        rows.append(("body", content["schema"]))
    for status, response in operation["responses"].items():
        schema = next((each.get("schema") for each in response.get("content", {}).values()), None)
        rows.append((f"<code>{escape(str(status))}</code>", schema if status == "200" and schema else response["description"]))
    table = "".join(f"<tr><td>{head}<td>{_shown(what)}" for head, what in rows)
    text = escape(operation.get("description") or operation.get("summary", ""))
    return f"<h2><code>{method} {escape(path)}</code></h2><p>{text}</p><table>{table}</table>"


def _shown(what: str | dict[str, Any]) -> str:
    if isinstance(what, str):
        return escape(what)
    name = str(what.get("$ref", "")).rpartition("/")[2]
    return f'<a href="#{escape(name)}">{escape(name)}</a>' if name else escape(str(what.get("type", "")))
