"""What llama-bench is asked, and what is read from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.errors import PeerError
from tests.measure.conftest import Program
from tools.measure.peers.llama_bench import LlamaBench

BENCH = """
import json, sys

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
assert (arguments["-p"], arguments["-n"], arguments["-d"], arguments["-fa"], arguments["-t"]) == ("190", "0", "200", "off", "2")
if arguments["-m"] == "absent":
    sys.exit("error: failed to load model")
if arguments["-m"] == "talkative":
    print("ggml backend loaded")
print(json.dumps([{"samples_ns": [1500000000] * int(arguments["-r"])}]))
"""


def bench(program: Path, model: str) -> LlamaBench:
    return LlamaBench(program, Path(model), 2, n_tokens=190, depth=200, flash_attention=False, repetitions=3)


def test_the_time_of_each_repetition(program: Program) -> None:
    """Nanoseconds taken for anything else would pass or fail every bar."""
    with bench(program(BENCH), "sound") as run:
        assert run.seconds() == [1.5, 1.5, 1.5]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("absent", "llama-bench ended with status 1: error: failed to load model"),
        ("talkative", "llama-bench printed no single row of samples: 'ggml backend loaded"),
    ],
)
def test_failures_say_what_happened(program: Program, model: str, message: str) -> None:
    with pytest.raises(PeerError) as caught, bench(program(BENCH), model) as run:
        run.seconds()
    assert str(caught.value).startswith(message)
