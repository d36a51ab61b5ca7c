"""Check a GGUF against its source: tensors, metadata and next-token distributions, and a verdict."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from archroute_edge.deciders import choose_prompt_format
from archroute_edge.engine import check_model_file
from archroute_edge.errors import QuantizationError
from archroute_edge.models import AUTO, ModelFile
from tools.convert.conversion import convert_checkpoint
from tools.convert.distribution_comparison import DistributionComparison, Observation, compare_distributions, observe
from tools.convert.file_comparison import FileComparison, compare_files
from tools.convert.routing_prompts import VERIFICATION, shipped_cases

MAX_MEAN_KL: Final = 1.0
"""Nats. Rounding stays far below; a model whose tensors were mixed up comes to several."""

Progress = Callable[[str, int, int], None]
"""Called with the step, and the amounts done and in all."""


@dataclass(frozen=True)
class Limits:
    """Bounds on the distributions: the largest mean KL divergence in nats, the smallest share of equal decisions."""

    mean_kl: float = MAX_MEAN_KL
    equal_decisions: float = 0.0


@dataclass(frozen=True)
class Verification:
    """``distributions`` is None if the files differ so much that running them would show nothing."""

    model: Path
    reference: str
    files: FileComparison
    distributions: DistributionComparison | None
    problems: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    @property
    def identical(self) -> bool:
        """Whether tensors mean the same numbers and the distributions are the same."""
        same = self.distributions is not None and self.distributions.largest_kl == 0.0
        return self.passed and same and self.files.largest_error == 0.0

    @property
    def verdict(self) -> str:
        """One line."""
        if self.identical:
            return f"IDENTICAL: {self.model.name} holds the numbers of {self.reference}, and answers alike"
        if self.passed:
            return f"SOUND: {self.model.name} is {self.reference} within the precision of its tensor types"
        more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
        return f"DIFFERS: {self.model.name} is not faithful to {self.reference}: {self.problems[0]}{more}"

    def to_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "model": self.model.name,
            "reference": self.reference,
            "passed": self.passed,
            "verdict": self.verdict,
            "problems": list(self.problems),
            "files": asdict(self.files),
            "distributions": asdict(self.distributions) if self.distributions else None,
        }


def verify(
    model: Path,
    reference: Path,
    *,
    name: str = "",
    limits: Limits | None = None,
    prompt_format: str = AUTO,
    threads: int | None = None,
    asked_before: dict[str, list[Observation]] | None = None,
    on_progress: Progress = lambda step, done, total: None,
) -> Verification:
    """Compare the GGUF ``model`` with the GGUF ``reference``, which is called ``name`` in the verdict.

    Args:
        asked_before: the reference's results on the prompts, by prompt format; filled here, so that it is asked once for
            several models.

    Raises:
        ModelError: one of the files is missing, damaged, or no model.
        QuantizationError: a tensor type cannot be read, or the models do not share a vocabulary.
    """
    limits = limits or Limits()
    headers = check_model_file(model), check_model_file(reference)
    files = compare_files(*headers, partial(on_progress, "comparing tensors"))
    problems, distributions = list(files.problems), None
    if files.comparable:
        cases = shipped_cases(VERIFICATION)
        # Both are asked alike, also where only one of them says how it was trained.
        asked = choose_prompt_format(prompt_format, ModelFile(model.name, model), headers[0]).name
        known = {} if asked_before is None else asked_before
        if asked not in known:
            known[asked] = observe(
                reference, cases, prompt_format=asked, threads=threads, on_progress=partial(on_progress, "asking the reference")
            )
        found = observe(
            model, cases, prompt_format=asked, threads=threads, on_progress=partial(on_progress, "asking the model")
        )
        distributions = compare_distributions(found, known[asked], cases)
        # Written so that NaN is a problem too.
        if not distributions.mean_kl <= limits.mean_kl:
            problems.append(f"mean KL divergence {distributions.mean_kl:.4g} is more than {limits.mean_kl:g}")
        if not distributions.equal_decisions >= limits.equal_decisions:
            problems.append(
                f"{distributions.equal_decisions:.0%} of decisions are equal; {limits.equal_decisions:.0%} are wanted"
            )
    return Verification(model, name or reference.name, files, distributions, tuple(problems))


@contextmanager
def reference_file(reference: Path, beside: Path, on_progress: Progress) -> Iterator[Path]:
    """The GGUF to compare with: ``reference`` itself, or a conversion of that checkpoint's folder, gone afterwards.

    Raises:
        CheckpointError: the checkpoint cannot be converted.
        QuantizationError: there is no place for the conversion beside ``beside``.
    """
    if not reference.is_dir():
        yield reference
        return
    try:
        scratch = tempfile.TemporaryDirectory(prefix=".verify-", dir=beside.resolve().parent)
    except OSError as exc:
        raise QuantizationError(f"{beside.parent}: no conversion can be kept there ({exc.strerror or exc})") from exc
    with scratch as folder:
        converted = Path(folder) / "reference.gguf"
        convert_checkpoint(reference, converted, on_progress=partial(on_progress, "converting"))
        yield converted
