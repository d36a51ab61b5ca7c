"""CLINC150 and BANKING77 as published: messages by intent, and those without one."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.cases.errors import DataSetError


@dataclass(frozen=True)
class LabelledMessages:
    """One split of a data set.

    Attributes:
        messages: texts by intent.
        domains: intents by domain.
        out_of_scope: texts of no intent.
    """

    messages: Mapping[str, Sequence[str]]
    domains: Mapping[str, Sequence[str]]
    out_of_scope: Sequence[str] = ()


def find(folder: Path, name: str) -> Path:
    """The file that a data set publishes as ``name``: below ``folder``, or in it if that is the inner folder.

    Raises:
        DataSetError: neither is there.
    """
    for path in (folder / name, folder / Path(*Path(name).parts[1:])):
        if path.is_file():
            return path
    raise DataSetError(f"{folder}: has no {name}; give the folder of the data set as it is published")


def read_json(path: Path) -> Any:
    """Parse a file.

    Raises:
        DataSetError: it cannot be read or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise DataSetError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (ValueError, RecursionError) as exc:
        raise DataSetError(f"{path}: not JSON ({exc}); fetch it again") from exc


def read_clinc150(folder: Path, split: str) -> LabelledMessages:
    """Read ``data/data_full.json`` and ``data/domains.json``.

    Raises:
        DataSetError: a file is missing or of another layout; the message says where.
    """
    path = find(folder, "data/data_full.json")
    content = read_json(path)
    messages: dict[str, list[str]] = defaultdict(list)
    for text, intent in _pairs(content, split, path):
        messages[intent].append(text)
    out_of_scope = [text for text, _ in _pairs(content, f"oos_{split}", path)]
    domains_path = find(folder, "data/domains.json")
    domains = read_json(domains_path)
    if not isinstance(domains, dict) or not all(_is_texts(intents) for intents in domains.values()):
        raise DataSetError(f"{domains_path}: expected an object of lists of intents")
    return LabelledMessages(messages, domains, out_of_scope)


def read_banking77(folder: Path, split: str) -> LabelledMessages:
    """Read ``banking_data/SPLIT.csv``.

    Raises:
        DataSetError: it is missing or of another layout; the message has the line.
    """
    path = find(folder, f"banking_data/{split}.csv")
    messages: dict[str, list[str]] = defaultdict(list)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)
            if next(rows, None) != ["text", "category"]:
                raise DataSetError(f"{path}:1: expected the columns text,category")
            for row in rows:
                if len(row) != 2 or not all(cell.strip() for cell in row):
                    raise DataSetError(f"{path}:{rows.line_num}: expected a text and a category, not {len(row)} cells")
                messages[row[1]].append(row[0])
    except OSError as exc:
        raise DataSetError(f"{path}: cannot be read ({exc.strerror or exc})") from exc
    except (csv.Error, UnicodeDecodeError) as exc:
        raise DataSetError(f"{path}: not a CSV file in UTF-8 ({exc}); fetch it again") from exc
    return LabelledMessages(messages, {"banking": list(messages)})


def _pairs(content: Any, key: str, path: Path) -> list[tuple[str, str]]:
    pairs = content.get(key) if isinstance(content, dict) else None
    if not isinstance(pairs, list):
        raise DataSetError(f"{path}: expected a list under {key!r}")
    for index, pair in enumerate(pairs):
        if not _is_texts(pair) or len(pair) != 2 or not pair[0].strip():
            raise DataSetError(f"{path}: {key}[{index}]: expected [text, intent]")
    return [(text, intent) for text, intent in pairs]


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
