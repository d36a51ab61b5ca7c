"""The public data in small: texts of our own in files of the layouts that the training reads."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from training.mini import public_intents
from training.mini.catalogue import Catalogue, build_catalogue
from training.tiny.kinds_bank import Kind
from training.tiny.public_data import PublicData

DOMAINS = ["utility", "small_talk", "work", "credit_cards", "meta", "home", "auto_and_commute"]
SERVICES = ["Banks", "Buses", "Flights", "Homes", "Hotels", "RentalCars", "Restaurants", "Travel", "Doctor", "Movies"]
SENTENCES = {"eng_Latn": "en", "deu_Latn": "de", "kor_Hang": "ko", "jpn_Jpan": "ja"}
REQUESTS = ["en", "de", "da", "ar", "ja", "tr", "gsw"]
LONG = "A sentence that is far too long to be worth its time. " * 4


def kind(source: str, name: str, domain: str = "") -> Kind:
    """A kind whose every phrasing says which kind it is of."""
    identity = f"{source}/{name}"
    texts = [f"{identity} request {number}" for number in range(6)]
    return Kind(identity, source, [name], [f"about {name}"], texts, ["held"], domain=domain)


@pytest.fixture(scope="session")
def public() -> PublicData:
    kinds = [kind("clinc150", f"{domain}_{number}", domain) for domain in DOMAINS for number in range(4)]
    for one in kinds:
        one.near = {other.id for other in kinds if other.domain == one.domain} - {one.id}
    kinds += [kind("banking77", f"question_{number}") for number in range(6)]
    kinds += [kind("sgd", f"{service}.Do{number}", service) for service in SERVICES for number in range(2)]
    return PublicData({k.id: k for k in kinds}, [f"scopeless {number}" for number in range(20)], ["scopeless held"])


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of public data; a text of many languages says its meaning and, behind `in`, its language."""
    folder = tmp_path_factory.mktemp("data")
    intents = folder / "intents"
    intents.mkdir()
    words = yaml.safe_load(public_intents._WORDS.read_text(encoding="utf-8"))
    for source in ("hwu64", "snips"):
        rows = [
            {"text": f"{source}/{intent} request {number}", "intent": intent, "scenario": intent.split("_")[0]}
            for intent in words[source]
            for number in range(9)
        ]
        _write(intents / f"{source}.jsonl.gz", rows)
    tools = [f"Tool{number:02}" for number in range(14)]
    _write(intents / "metatool.jsonl.gz", [{"text": f"{tool} request {n}", "tool": tool} for tool in tools for n in range(6)])
    _write(intents / "metatool_tools.jsonl.gz", [{"tool": tool, "description": f"does {tool}"} for tool in tools])
    variant = {"service": "Hotels_1", "intent": "Do1", "name": "ReserveRoom", "description": "Books a room"}
    _write(intents / "sgdx_train.jsonl.gz", [{**variant, "variant": "v1", "service_description": "Rooms and more"}])
    sentences = [{code: f"sentence {n} in {short}" for code, short in SENTENCES.items()} for n in range(40)]
    _write(intents / "sib200_parallel.jsonl.gz", [{"texts": texts} for texts in [*sentences, {"eng_Latn": LONG}]])
    xsid = list(yaml.safe_load((Path(public_intents.__file__).parent / "xsid.yaml").read_text(encoding="utf-8")))
    requests = [
        {"lang": code, "id": number, "intent": xsid[number % len(xsid)], "text": f"xsid {number} in {code}"}
        for code in REQUESTS
        for number in range(3 * len(xsid))
    ]
    requests.append({"lang": "de", "id": 3 * len(xsid) + 1, "intent": xsid[0], "text": ""})
    _write(intents / "xsid_valid.jsonl.gz", requests)
    return folder


@pytest.fixture(scope="session")
def steered(public: PublicData, data: Path) -> Catalogue:
    """A catalogue of which parts are held out."""
    return build_catalogue(public, data, steer=True)
