"""The scenarios: each starts its peers, asks them in turn, and ends them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Final

from archroute_edge.engine import EngineName
from archroute_edge.errors import PeerError
from tools.measure.peers.figures import Bar, Comparison
from tools.measure.peers.llama_bench import LlamaBench
from tools.measure.peers.llama_server import LlamaServer
from tools.measure.peers.processes import WorkerProcess
from tools.measure.peers.question import Peer, Question, Reply, fresh_messages

OURS: Final = "archroute-edge"
OURS_ON_LLAMA_CPP: Final = "archroute-edge, llama.cpp"
SERVER: Final = "llama-server"
FREE_SERVER: Final = "llama-server, no grammar"
COMPLETION: Final = "create_completion"
CHAT: Final = "create_chat_completion"
IK_GENERATE: Final = "IkLlama.generate, no grammar"
WITH_PREFIX: Final = "with a saved prefix"
WITHOUT_PREFIX: Final = "without"
QUICKSTART: Final = {"transformers, bf16": "bfloat16", "transformers, f32": "float32"}

TABLES: Final = ("example", "customer_service", "office", "travel")
N_ROUTES: Final = (5, 200)
MOST_MESSAGE_TOKENS: Final = 45

BARS: Final[Mapping[str, Mapping[str, Bar]]] = {
    "first-turn": {SERVER: Bar(0.88), COMPLETION: Bar(0.88), CHAT: Bar(0.88)},
    "tables": {SERVER: Bar(0.90), COMPLETION: Bar(0.52), CHAT: Bar(0.52)},
    "second-process": {WITHOUT_PREFIX: Bar(0.60)},
    "quickstart": dict(zip(QUICKSTART, (Bar(2.5, at_least=True), Bar(5.0, at_least=True)), strict=True)),
}
PREFILL_RATE_BAR: Final = Bar(0.95, at_least=True)
DEPTH_BAR: Final = Bar(1.1)

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Setting:
    """What all scenarios share.

    Args:
        model: the GGUF.
        threads: threads for every peer.
        rounds: measured rounds, after one to warm up.
        llama_server: path of the program, or None to go without.
        llama_bench: path of the program, or None to go without.
        progress: told the scenario, and the decisions done and in all.
        engine: what evaluates for ours. The bars are llama.cpp's.
    """

    model: Path
    threads: int
    rounds: int
    llama_server: Path | None
    llama_bench: Path | None
    progress: Progress
    engine: EngineName = "llama.cpp"

    def ours(self, name: str = OURS, **settings: object) -> WorkerProcess:
        """archroute-edge, loaded."""
        settings = {"engine": self.engine, **settings}
        return WorkerProcess(name, "archroute", model=str(self.model), threads=self.threads, **settings)

    @property
    def bars(self) -> Mapping[str, Mapping[str, Bar]]:
        """Bounds of ratios by scenario and peer."""
        return BARS if self.engine == "llama.cpp" else {}


@dataclass
class Outcome:
    """The result of a scenario: the replies of each side, and the comparisons between them."""

    scenario: str
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def compare(self, bars: Mapping[str, Mapping[str, Bar]], ours: str = OURS) -> Outcome:
        """Compare ``ours`` with every other side, whole decisions, against the scenario's bars."""
        for name, replies in self.replies.items():
            if name == ours:
                continue
            bar = bars.get(self.scenario, {}).get(name)
            free = any(reply.answer is None for reply in replies)
            same = None if free else [reply.answer for reply in replies] == [reply.answer for reply in self.replies[ours]]
            mine, theirs = ([reply.seconds for reply in self.replies[side]] for side in (ours, name))
            quantity = f"time, {name} / {ours}" if bar is not None and bar.at_least else f"time, {ours} / {name}"
            self.comparisons[name] = Comparison(quantity, mine, theirs, bar, same_answers=same)
        return self


def in_turn(
    scenario: str, peers: Mapping[str, Peer], questions: Sequence[Question], n_warm: int, progress: Progress
) -> Outcome:
    """Ask every peer every question, each time another peer first; the first ``n_warm`` replies are not kept.

    Raises:
        PeerError: a message is too long for the scenario, or a peer failed.
    """
    outcome = Outcome(scenario, {name: [] for name in peers})
    names = list(peers)
    for number, question in enumerate(questions):
        if question.n_message > MOST_MESSAGE_TOKENS:
            raise PeerError(f"a message of {question.n_message} tokens; this vocabulary cuts words too finely to compare")
        first = number % len(names)
        for place, name in enumerate((*names[first:], *names[:first])):
            reply = peers[name].decide(question)
            progress(scenario, number * len(names) + place + 1, len(questions) * len(names))
            if number >= n_warm:
                outcome.replies[name].append(reply)
        if number >= n_warm:
            outcome.answers.append(question.answer)
    return outcome


def questions_of(asker: WorkerProcess, tables: Sequence[str], rounds: int) -> list[Question]:
    """``rounds`` fresh messages for each table, the tables in turn."""
    messages = fresh_messages()
    return [asker.ask(table, next(messages)) for _ in range(rounds) for table in tables]


def decision_peers(setting: Setting, stack: ExitStack) -> dict[str, WorkerProcess | LlamaServer]:
    """Ours, llama-server, llama-cpp-python and, beside ours on ik_llama.cpp, ik-llama-cpp-python, all loaded."""
    peers: dict[str, WorkerProcess | LlamaServer] = {OURS: stack.enter_context(setting.ours())}
    if setting.engine != "llama.cpp":
        peers[OURS_ON_LLAMA_CPP] = stack.enter_context(setting.ours(OURS_ON_LLAMA_CPP, engine="llama.cpp"))
    if setting.llama_server is not None:
        for name, grammar in ((SERVER, True), (FREE_SERVER, False)):
            server = LlamaServer(setting.llama_server, setting.model, setting.threads, grammar=grammar)
            peers[name] = stack.enter_context(server)
    for name, chat in ((COMPLETION, False), (CHAT, True)):
        worker = WorkerProcess(name, "llama-cpp-python", model=str(setting.model), threads=setting.threads, chat=chat)
        peers[name] = stack.enter_context(worker)
    if setting.engine == "ik":
        worker = WorkerProcess(IK_GENERATE, "ik-llama-cpp-python", model=str(setting.model), threads=setting.threads)
        peers[IK_GENERATE] = stack.enter_context(worker)
    return peers


def over_tables(scenario: str, setting: Setting, tables: Sequence[str]) -> Outcome:
    """Warm decisions on fresh one-turn messages, the tables in turn."""
    with ExitStack() as stack:
        peers = decision_peers(setting, stack)
        ours = peers[OURS]
        assert isinstance(ours, WorkerProcess)
        questions = questions_of(ours, tables, setting.rounds + 1)
        outcome = in_turn(scenario, peers, questions, len(tables), setting.progress)
    tokens = [question.n_message for question in questions]
    outcome.notes.append(f"messages of {min(tokens)} to {max(tokens)} tokens")
    return outcome.compare(setting.bars)


def first_turn(setting: Setting) -> Outcome:
    """Warm first turns over one route table."""
    return over_tables("first-turn", setting, TABLES[:1])


def tables(setting: Setting) -> Outcome:
    """Warm first turns over four route tables in turn."""
    return over_tables("tables", setting, TABLES)


class FirstDecision:
    """A process of ours that is started for each question, and whose first decision is what counts."""

    def __init__(self, setting: Setting, name: str, prefix_folder: str | None) -> None:
        self._setting, self._name, self._folder = setting, name, prefix_folder

    def decide(self, question: Question) -> Reply:
        """Load the model, then take the time of the decision alone."""
        with self._setting.ours(self._name, prefix_folder=self._folder) as process:
            reply: Reply = process.decide(question)
            return reply


def second_process(setting: Setting) -> Outcome:
    """A process's first decision once its model is loaded, with the prefix that an earlier one saved and without."""
    with tempfile.TemporaryDirectory() as folder:
        with setting.ours() as asker:
            questions = questions_of(asker, TABLES[:1], setting.rounds + 1)
        peers = {
            WITH_PREFIX: FirstDecision(setting, WITH_PREFIX, folder),
            WITHOUT_PREFIX: FirstDecision(setting, WITHOUT_PREFIX, None),
        }
        # The round to warm up is the one whose process saves the prefix.
        outcome = in_turn("second-process", peers, questions, 1, setting.progress)
    return outcome.compare(setting.bars, WITH_PREFIX)


def quickstart(setting: Setting) -> Outcome:
    """Warm first turns of ours beside the model card's transformers quickstart."""
    with ExitStack() as stack:
        ours = stack.enter_context(setting.ours())
        peers = {OURS: ours}
        for name, dtype in QUICKSTART.items():
            worker = WorkerProcess(name, "transformers", model=str(setting.model), threads=setting.threads, dtype=dtype)
            peers[name] = stack.enter_context(worker)
        questions = questions_of(ours, TABLES[:1], setting.rounds + 1)
        return in_turn("quickstart", peers, questions, 1, setting.progress).compare(setting.bars)


def prefill(setting: Setting) -> Outcome:
    """Ours beside llama-bench's reading of as many tokens at that depth, with 5 routes and with 200."""
    if setting.llama_bench is None:
        raise PeerError("the scenario prefill needs --llama-bench PATH")
    outcome = Outcome("prefill")
    for n_routes in N_ROUTES:
        _beside_bench(setting, setting.llama_bench, n_routes, outcome)
    counts = [{reply.n_evaluated for reply in replies} for name, replies in outcome.replies.items() if name.startswith(OURS)]
    same = len(set().union(*counts)) == 1
    outcome.notes.append(f"evaluated tokens over {' and '.join(map(str, N_ROUTES))} routes: {'equal' if same else 'not equal'}")
    return outcome


def _beside_bench(setting: Setting, program: Path, n_routes: int, outcome: Outcome) -> None:
    step, name = f"prefill, {n_routes} routes", f"{OURS}, {n_routes} routes"
    n_before, n_all = (setting.rounds + 1) // 2, 2 * setting.rounds
    with setting.ours(table=str(n_routes)) as ours:
        questions = list(islice(_alike(ours, str(n_routes)), setting.rounds + 2))
        # The first decision reads the routes, the second shows what every later one does.
        for question in questions[:2]:
            typical = ours.decide(question)

        def bench(repetitions: int) -> list[float]:
            run = LlamaBench(
                program,
                setting.model,
                setting.threads,
                n_tokens=typical.n_evaluated,
                depth=typical.n_reused,
                flash_attention=ours.call("flash_attention"),
                repetitions=repetitions,
            )
            with run:
                return run.seconds()

        # Before and after ours, so that a drifting machine hurts both.
        theirs = bench(n_before)
        setting.progress(step, n_before, n_all)
        replies = []
        for question in questions[2:]:
            replies.append(ours.decide(question))
            setting.progress(step, n_before + len(replies), n_all)
        theirs += bench(max(1, setting.rounds - n_before))
        setting.progress(step, n_all, n_all)
    bench_name = f"llama-bench, {n_routes} routes"
    outcome.replies[name] = replies
    outcome.answers += [question.answer for question in questions[2:]]
    n_tokens, depth = typical.n_evaluated, typical.n_reused
    outcome.replies[bench_name] = [Reply(seconds, None, n_tokens + depth, depth, n_tokens, seconds) for seconds in theirs]
    evaluating = [reply.evaluate_seconds or reply.seconds for reply in replies]
    outcome.comparisons[f"{bench_name}: rate"] = Comparison(
        f"prefill rate, {name} / llama-bench", evaluating, theirs, PREFILL_RATE_BAR, paired=False
    )
    outcome.comparisons[f"{bench_name}: time"] = Comparison(
        f"time, {name} / llama-bench", [reply.seconds for reply in replies], theirs, DEPTH_BAR, paired=False
    )


def _alike(asker: WorkerProcess, table: str) -> Iterator[Question]:
    """Questions on ``table`` whose prompts are of one length."""
    length = None
    for message in fresh_messages():
        question = asker.ask(table, message)
        length = length or len(question.prompt)
        if len(question.prompt) == length:
            yield question


SCENARIOS: Final[Mapping[str, Callable[[Setting], Outcome]]] = {
    "first-turn": first_turn,
    "tables": tables,
    "second-process": second_process,
    "quickstart": quickstart,
    "prefill": prefill,
}
