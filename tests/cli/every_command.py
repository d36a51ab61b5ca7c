"""Run every command under each of a list of environments: ``python -m tests.cli.every_command FOLDER < ENVIRONMENTS``.

One process loads what commands need, and forks for each command: that costs a tenth of starting each anew. Nothing has been
computed by then. huggingface_hub reads its own settings when it is imported: it is loaded for the environments alone that
leave those as they are, which come last. The verdict on ik_llama.cpp is known as well, since each command that keeps none
would start a trial of seconds; an environment that is ``untried`` lacks it, and its trial evaluates small models.

In: a JSON object of environments by name, each ``{"variables": {...}, "no_user": bool, "commands": [...], "hub": bool,
"untried": bool}``.
Out: for each and each command the exit code and the two streams.
"""

from __future__ import annotations

import importlib
import json
import os
import pwd
import re
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import filelock  # noqa: F401 - this and the HTTP client are most of the time that huggingface_hub takes

import archroute_edge.cli.doctor as doctor
import archroute_edge.deciders._open_decider  # loads llama.cpp
import archroute_edge.http_client  # noqa: F401
from archroute_edge.cli import main
from archroute_edge.engine import _engine_choice as engine_choice
from archroute_edge.engine import chosen_kernels, soundness

TEXT = "my test fails, fix the bug"
COMMANDS = {
    "route": ["route", TEXT, "--threads", "1"],
    "route-small": ["route", TEXT, "--threads", "1", "--model", "ENCODER"],
    "check": ["check", "FOLDER/routes.yaml"],
    "prompt": ["prompt", TEXT, "--model", "tiny"],
    "grammar": ["grammar", "--model", "tiny"],
    "list": ["models", "list"],
    "path": ["models", "path", "mini"],
    "verify": ["models", "verify", "mini"],
    "pull": ["models", "pull", "arch-router"],
    "doctor": ["doctor"],
    "eval": ["eval", "--help"],
    "bench": ["bench", "--help"],
    "quantize": ["quantize", "MODEL", "Q4_0", "-o", "FOLDER", "--dry-run"],
    "serve": ["serve", "--stdio", "--model", "ENCODER"],
}


def no_user(_uid: int) -> NoReturn:
    raise KeyError("no such user")


def run(arguments: list[str], environment: dict[str, Any]) -> NoReturn:
    """Be the command, in this process: its streams are files, and its environment the one given."""
    status = 1
    try:
        os.environ.clear()
        os.environ.update(environment["variables"])
        if environment.get("no_user"):
            pwd.getpwuid = no_user
        if environment.get("untried"):
            engine_choice._verdicts.clear()
            vars(engine_choice)["_MODELS"] = {"generative": sys.argv[2], "encoder": sys.argv[3]}
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        # Deciding in processes of their own is slow, and tested elsewhere.
        vars(doctor)["decide_with"] = lambda path: doctor.TrialDecision("other", 1.0, ("CPU",))
        main(arguments, prog_name="archroute")
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main_of_all(folder: Path) -> None:
    """Read the environments, and print what came of them."""
    chosen_kernels()
    assert soundness() is None
    environments = json.load(sys.stdin)
    results: dict[str, dict[str, tuple[int, str, str]]] = {}
    streams = (folder / "stdout", folder / "stderr")
    places = {"FOLDER": str(folder), "MODEL": sys.argv[2], "ENCODER": sys.argv[3]}
    for name, environment in sorted(environments.items(), key=lambda each: bool(each[1].get("hub"))):
        if environment.get("hub"):
            importlib.import_module("archroute_edge.models._hub")
        results[name] = {}
        for command in environment["commands"]:
            arguments = [re.sub("|".join(places), lambda found: places[found[0]], word) for word in COMMANDS[command]]
            child = os.fork()
            if child == 0:
                for number, path in enumerate(streams, 1):
                    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
                run(arguments, environment)
            _, status = os.waitpid(child, 0)
            out, err = (path.read_text(encoding="utf-8", errors="replace") for path in streams)
            results[name][command] = (os.waitstatus_to_exitcode(status), out, err)
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main_of_all(Path(sys.argv[1]))
