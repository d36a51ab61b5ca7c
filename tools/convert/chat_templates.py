"""The chat template, which checkpoints keep in one of three places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from archroute_edge.errors import CheckpointError
from tools.convert.json_files import Settings, read_object, read_text

ChatTemplate = str | list[dict[str, str]] | None
"""One template, or several with names (``[{"name": ..., "template": ...}]``), or none."""


def read_chat_template(folder: Path, settings: Settings) -> ChatTemplate:
    """From tokenizer_config.json (``settings``), else chat_template.jinja, else chat_template.json.

    Raises:
        CheckpointError: it is not a template.
    """
    template = settings.get("chat_template")
    if template is None:
        template = _from_files(folder)
    if template is None or isinstance(template, str):
        return template
    if isinstance(template, list) and all(_is_named(entry) for entry in template):
        return [{"name": entry["name"], "template": entry["template"]} for entry in template]
    raise CheckpointError(f"{folder}: its chat_template is neither a text nor a list of named texts")


def _from_files(folder: Path) -> Any:
    if (folder / "chat_template.jinja").is_file():
        main = read_text(folder / "chat_template.jinja")
        others = sorted((folder / "additional_chat_templates").glob("*.jinja"))
        if not others:
            return main
        named = [{"name": path.stem, "template": read_text(path)} for path in others]
        return [{"name": "default", "template": main}, *named]
    if (folder / "chat_template.json").is_file():
        return read_object(folder / "chat_template.json").get("chat_template")
    return None


def _is_named(entry: Any) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("template"), str)
