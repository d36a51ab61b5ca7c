"""How probable each answer is, and so how sure a decision.

P(answer) is the product, over the answer's canonical tokens, of p(token) divided by the sum of p over the tokens that
the answers' token trie allows there. It sums to 1 over the answers; spellings of one route are added up.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from archroute_edge.decoding._decoders import AnswerSet, Decoded, Path
from archroute_edge.decoding._kv_cache import WorkingSequence
from archroute_edge.engine import BatchToken, Logits


@dataclass
class _Node:
    """A node of the trie of canonical tokens: the routes below it and the next tokens."""

    routes: set[str] = field(default_factory=set)
    children: dict[int, _Node] = field(default_factory=dict)


class AnswerScorer:
    """Scores the answers of one route table.

    Args:
        answers: the answers; the trie is built once.
    """

    def __init__(self, answers: AnswerSet) -> None:
        self._root = _Node()
        for answer, path in zip(answers.answers, answers.canonical, strict=True):
            node = self._root
            node.routes.add(answer.route)
            for token in path:
                node = node.children.setdefault(token, _Node())
                node.routes.add(answer.route)

    def confidence(self, work: WorkingSequence, n_prompt: int, decoded: Decoded) -> float:
        """P(the decoded route). Nothing is evaluated if decoding kept to the canonical tokens."""
        logits = self._complete(work, n_prompt, decoded.observed, list(self.branches(decoded.route)))
        return self.probability(decoded.route, lambda path, tokens: logits[path][tokens])

    def scores(self, work: WorkingSequence, n_prompt: int, decoded: Decoded) -> dict[str, float]:
        """P(route) for every route and ``other``; sums to 1."""
        logits = self._complete(work, n_prompt, decoded.observed, list(self.branches()))
        return {route: self.probability(route, lambda path, tokens: logits[path][tokens]) for route in self.routes}

    @property
    def routes(self) -> list[str]:
        """All routes, and ``other``."""
        return sorted(self._root.routes)

    def branches(self, route: str | None = None) -> dict[Path, list[int]]:
        """Where the choice of a token decides between routes, and the tokens there; or only where ``route`` is one of them."""
        return {path: list(node.children) for path, node in self._branches() if route is None or route in node.routes}

    def probability(self, route: str, logits_after: Callable[[Path, list[int]], Logits]) -> float:
        """P(route).

        Args:
            route: the route.
            logits_after: the logits of some tokens after a path, or their logarithms of probabilities.
        """
        return math.exp(_log_sum(_log_probabilities(self._root, logits_after, route)))

    def _branches(self) -> Iterable[tuple[Path, _Node]]:
        """The nodes at which the choice of a token decides between routes: only these need logits."""
        stack: list[tuple[Path, _Node]] = [((), self._root)]
        while stack:
            path, node = stack.pop()
            if len(node.routes) > 1:
                if len(node.children) > 1:
                    yield path, node
                stack.extend(((*path, token), child) for token, child in node.children.items())

    def _complete(
        self, work: WorkingSequence, n_prompt: int, observed: Mapping[Path, Logits], branches: Sequence[Path]
    ) -> dict[Path, Logits]:
        """The logits after each of ``branches``, those not observed while decoding evaluated now, side by side."""
        found = {path: observed[path] for path in branches if path in observed}
        missing = sorted(path for path in branches if path not in observed)
        work.truncate(n_prompt)
        while missing:
            chunk = _leaves_first(missing, work.most_branches)
            asked = {path for path in missing if any(leaf[: len(path)] == path for leaf in chunk)}
            order: list[Path] = []

            def build(
                scratch: Sequence[int], chunk: Sequence[Path] = chunk, asked: set[Path] = asked, order: list[Path] = order
            ) -> list[BatchToken]:
                nodes = {leaf[:length] for leaf in chunk for length in range(1, len(leaf) + 1)}
                batch = []
                for path in sorted(nodes, key=lambda path: (len(path), path)):
                    members = tuple(number for number, leaf in zip(scratch, chunk, strict=True) if leaf[: len(path)] == path)
                    batch.append(BatchToken(path[-1], n_prompt + len(path) - 1, members, path in asked))
                    if path in asked:
                        order.append(path)
                return batch

            rows = work.evaluate_branches(n_prompt, len(chunk), build)
            found.update(zip(order, rows, strict=True))
            missing = [path for path in missing if path not in found]
        return found


def _leaves_first(paths: Sequence[Path], most: int) -> list[Path]:
    """Up to ``most`` of the sorted ``paths`` that begin no other of them: a sequence each is enough for all the others."""
    leaves = [path for index, path in enumerate(paths) if index + 1 == len(paths) or paths[index + 1][: len(path)] != path]
    return leaves[:most]


def _log_probabilities(root: _Node, logits_after: Callable[[Path, list[int]], Logits], route: str) -> list[float]:
    """log P of every answer below ``root`` that means ``route``, those that share a pure subtree taken together."""
    found = []
    stack: list[tuple[_Node, Path, float]] = [(root, (), 0.0)]
    while stack:
        node, path, before = stack.pop()
        if node.routes == {route}:
            found.append(before)
        elif route in node.routes:
            tokens = list(node.children)
            steps = _log_softmax(logits_after(path, tokens)) if len(tokens) > 1 else [0.0]
            for token, step in zip(tokens, steps, strict=True):
                stack.append((node.children[token], (*path, token), before + step))
    return found


def _log_softmax(row: Logits) -> list[float]:
    shifted = row.astype(np.float64) - row.max()
    return [float(value) for value in shifted - np.log(np.exp(shifted).sum())]


def _log_sum(values: Sequence[float]) -> float:
    if not values:
        return -math.inf
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))
