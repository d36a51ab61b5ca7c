"""What others rely on by name. Whatever is lost fails here, and whatever is new has to be listed, since it stays for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, cast, get_args
from unittest.mock import Mock

import click
import pytest

import archroute_edge
from archroute_edge.cli import main
from archroute_edge.decision import Reason
from archroute_edge.errors import SettingsError
from archroute_edge.models import find_model
from archroute_edge.routing import RoutingService
from archroute_edge.server import ServerSettings, StdioSettings
from archroute_edge.server.http._app import ServerApp
from archroute_edge.server.stdio._session import Session
from tests.server.conftest import Client

NAMES = """
    OTHER ArchRouteError AsyncRouter Calibration Cancellation Decision LiteLLMClassifier Messages Route RouteTable Router
    RoutingConfig RoutingService Timings TokenCounts Warmup __version__ load_config parse_config
"""

_ENGINE = """
    --budget --decoder --engine --flash-attention --gpu-layers --kv-type --n-ctx --no-flash-attention --no-prefix-cache
    --threads
"""

_FILTERS = "--client --failed --model --route --session --since --status --until"

COMMANDS = {
    "archroute": "--verbose -v --version",
    "archroute bench": """
        GGUF --budget --cases --config --csv --n-ctx --decisions --engine --flash-attention --from --gpu-layers --html
        --imatrix --json --kv-type --model --prompt-format --quant --reference --resume --rounds --n-routes --threads --turns
    """,
    "archroute calibrate": f"FILE --folds --json --model --output --prompt-format --resume --routes -o {_ENGINE}",
    "archroute check": "FILE --json",
    "archroute demo": "--engine --json",
    "archroute doctor": "--json",
    "archroute eval": f"""
        FILE --calibration --compare --csv --html --json --limit --model --prompt-format --resume --routes --switch-over
        {_ENGINE}
    """,
    "archroute grammar": "--config --model --prompt-format",
    "archroute label": f"""
        INPUTS --calibration --config --field --id --json --model --output --prompt-format --ray --scores --switch-over
        --takeover -o {_ENGINE}
    """,
    "archroute log": f"{_FILTERS} --json --limit --record-file",
    "archroute log clear": "--before --record-file --yes",
    "archroute log export": f"{_FILTERS} --cases --config --outcomes --record-file",
    "archroute log grade": "ID SCORE --note --record-file --route",
    "archroute log show": "ID --json --record-file",
    "archroute models": "",
    "archroute models list": "--json",
    "archroute models path": "NAME",
    "archroute models pull": "NAME --json --quant --revision",
    "archroute models remove": "NAME --json --yes",
    "archroute models verify": "NAME --json",
    "archroute prompt": "TEXT --budget --config --json --messages --model --prompt-format --tokens",
    "archroute quality": "",
    "archroute quality add": "FILE PREDICTOR --encoder --grades --json --model --output --suggest -o",
    "archroute quality calibrate": "PREDICTOR PROMPTS --cost-per-1k --encoder --json --output --price --share -o",
    "archroute quality eval": """
        OUTCOMES PREDICTOR --encoder --grades --html --json --price --resamples --retrain --strong --tiers --train --weak
    """,
    "archroute quality score": "FILE PREDICTOR --encoder",
    "archroute quality train": """
        OUTCOMES --battles --encoder --grades --json --licence --output --policy --seed --targets --tiers --together
        --vectors -o
    """,
    "archroute quantize": "LEVEL SOURCE --dry-run --imatrix --json --output --threads -o",
    "archroute report": "--client --html --json --record-file --route --since --until",
    "archroute route": f"""
        TEXT --batch --calibration --config --deadline --explain --json --messages --model --prompt-format --scores
        --switch-over {_ENGINE}
    """,
    "archroute serve": f"""
        --affinity-ttl --allowed-host --api-key --api-key-file --calibration --config --deadline --forward --host
        --implicit-sessions --max-affinity --max-body --model --otel --port --prompt-format --proxy --queue --record
        --record-file --record-max --stdio --switch-over --timeout
        {_ENGINE}
    """,
}

ENDPOINTS = {
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/activity",
    "GET /v1/activity/stream",
    "GET /v1/models",
    "GET /v1/models/{model_id}",
    "POST /routing/v1/chat/completions",
    "POST /routing/v1/messages",
    "POST /routing/v1/responses",
    "POST /v1/chat/completions",
    "POST /v1/decisions",
    "POST /v1/route",
    "POST /v1/route/batch",
    "POST /v1/systemone",
    "POST /v1/warm",
}

METHODS = {
    "cancel": "id",
    "info": "",
    "models": "",
    "route": "caller, deadline, key, messages, routes, scores",
    "route_many": "caller, conversations, keys, routes, scores",
    "warm": "caller, messages, routes, scores, whole",
}

REASONS = "deadline low_confidence no_user_text unreachable"

REMOTE_OPTIONS = "api ca concurrency key timeout vocabulary"


def test_names_in_python() -> None:
    assert sorted(archroute_edge.__all__) == sorted(NAMES.split())
    assert [name for name in archroute_edge.__all__ if not hasattr(archroute_edge, name)] == []


def test_reasons_of_a_decision() -> None:
    assert sorted(get_args(Reason)) == REASONS.split()


def test_options_in_the_address_of_a_remote_model() -> None:
    with pytest.raises(SettingsError) as caught:
        find_model("http://localhost?else=1#tiny")
    assert str(caught.value).rpartition("there are ")[2] == ", ".join(REMOTE_OPTIONS.split())


def _commands(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name, each in command.commands.items():
            yield from _commands(each, f"{path} {name}")


def _typed(parameter: click.Parameter) -> list[str]:
    """What stands for a parameter on the command line: its options, or the name of an argument."""
    if isinstance(parameter, click.Argument):
        return [str(parameter.name).upper()]
    return [*parameter.opts, *parameter.secondary_opts]


def test_commands_and_their_options() -> None:
    found = {
        path: sorted(each for parameter in command.params for each in _typed(parameter))
        for path, command in _commands(main, "archroute")
    }
    assert found == {path: sorted(names.split()) for path, names in COMMANDS.items()}


def test_endpoints() -> None:
    """Those of the document, which the server gives out itself."""
    client = Client(ServerApp(cast(RoutingService, Mock()), ServerSettings()))
    paths = client("GET", "/openapi.json").json()["paths"]
    assert {f"{method.upper()} {path}" for path, operations in paths.items() for method in operations} == ENDPOINTS


def _refusal(method: str, **params: object) -> str:
    sent: list[bytes] = []
    line = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    Session(cast(RoutingService, Mock()), StdioSettings(), sent.append).handle(line)
    reply: Any = json.loads(sent[0])
    return str(reply["error"]["message"])


def test_methods_over_stdio_and_their_parameters() -> None:
    """A host that names another method or parameter is told those that there are."""
    listed = _refusal("?").rpartition("there are ")[2]
    assert sorted(listed.split(", ")) == sorted(METHODS)
    assert {name: _refusal(name, **{"?": 1}).partition("known here: ")[2] for name in METHODS} == METHODS
