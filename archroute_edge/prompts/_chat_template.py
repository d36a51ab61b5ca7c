"""Rendering one user message through the chat template that a GGUF carries.

GGUFs come from strangers, so the template runs in Jinja's sandbox, and it never sees a user's text: it is rendered once
around a marker, and prompts are put where the marker came out.
"""

from __future__ import annotations

import datetime
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from archroute_edge.errors import PromptFormatError

# Private-use characters: no template compares against them, no tokenizer has them as a special token. Between them
# stands what a template that alters messages would alter.
_MARKER = "\ue0a1Aa  <&'\"\n\\\ue0b2\ue0c3"
# Real templates have up to 30,000 characters and take a few hundred steps for one message.
_LARGEST_TEMPLATE = 1 << 17
_MOST_STEPS = 10_000
_LARGEST_VALUE = 1 << 16
_LARGEST_PRODUCT = 1 << 24
_LONGEST_REASON = 200
# What chat templates use; others make long texts out of short ones, or are of no use here.
_FILTERS = (
    *("abs", "capitalize", "default", "d", "dictsort", "first", "float", "int", "items", "join", "last", "length", "count"),
    *("list", "lower", "map", "max", "min", "reject", "rejectattr", "replace", "reverse", "round", "safe", "select"),
    *("selectattr", "sort", "string", "sum", "title", "tojson", "trim", "unique", "upper", "e", "escape"),
)


@dataclass(frozen=True)
class ChatFrame:
    """What a chat template puts around a user message that is the whole conversation.

    Args:
        before: up to the message's text.
        after: from its end to the start of the assistant's reply.
        strips: whether the template strips white space off the message.
    """

    before: str
    after: str
    strips: bool

    def wrap(self, text: str) -> str:
        """The whole prompt for the user message ``text``."""
        return self.before + self.body(text) + self.after

    def body(self, text: str) -> str:
        """``text`` as it stands in the prompt."""
        return text.strip() if self.strips else text


def read_chat_template(template: str, *, bos_token: str = "", eos_token: str = "") -> ChatFrame:
    """Render ``template`` (Jinja, as Hugging Face's tokenizers use it) around one user message.

    Raises:
        PromptFormatError: the template fails, or does not put the message into the prompt unchanged, exactly once.
    """
    if len(template) > _LARGEST_TEMPLATE:
        raise PromptFormatError(f"the model's chat template has {len(template)} characters; that cannot be meant")
    try:
        padded, bare = (
            _BoundedEnvironment().render_bounded(
                template,
                messages=[{"role": "user", "content": content}],
                add_generation_prompt=True,
                bos_token=bos_token,
                eos_token=eos_token,
                tools=None,
                documents=None,
            )
            for content in (f" \n{_MARKER}\n ", _MARKER)
        )
    except Exception as exc:
        # A stranger's template can raise anything, SyntaxError and MemoryError included.
        reason = " ".join(str(exc).split())[:_LONGEST_REASON] or type(exc).__name__
        raise PromptFormatError(f"the model's chat template cannot be rendered: {reason}") from exc
    for strips, content, text in ((False, f" \n{_MARKER}\n ", padded), (True, _MARKER, padded)):
        before, found, after = text.partition(content)
        if found and _MARKER not in after and bare == before + _MARKER + after:
            return ChatFrame(before, after, strips)
    raise PromptFormatError("the model's chat template changes the message or repeats it; such a model cannot be used")


class _BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Jinja's sandbox as Hugging Face's tokenizers set it up, with bounds on steps and on the size of values."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        self.globals = {name: self.globals[name] for name in ("range", "dict", "namespace")}
        self.globals.update(raise_exception=_raise, strftime_now=_strftime_now)
        self.filters = {name: self._bounded(self.filters[name]) for name in _FILTERS}
        self.filters.update(_bounded_loop=self._loop, _bounded_text=self._text)
        self._n_steps = 0

    def _bounded(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` with a step for each call, and bounds on what goes in and what comes out."""

        @functools.wraps(function)  # keeps the marks by which Jinja passes the context
        def bounded(*args: Any, **kwargs: Any) -> Any:
            self._step()
            _check_arguments([*args, *kwargs.values()])
            return self._text(function(*args, **kwargs))

        return bounded

    def render_bounded(self, template: str, **variables: object) -> str:
        """The rendered template; a TemplateError if it takes too many steps or makes too large a value."""
        tree = self.parse(template)
        for loop in tree.find_all(nodes.For):
            loop.iter = nodes.Filter(loop.iter, "_bounded_loop", [], [], None, None)
        for concat in tree.find_all(nodes.Concat):
            concat.nodes = [nodes.Filter(part, "_bounded_text", [], [], None, None) for part in concat.nodes]
        return self.from_string(tree).render(variables)

    def _step(self) -> None:
        self._n_steps += 1
        if self._n_steps > _MOST_STEPS:
            raise TemplateError(f"it takes more than {_MOST_STEPS} steps")

    def _loop(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._step()
            yield value

    def _text(self, value: object) -> object:
        if _size(value) > _LARGEST_VALUE:
            raise TemplateError("it makes too large a value")
        return value

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call ``obj`` for the template, as one step."""
        self._step()
        _check_arguments([getattr(obj, "__self__", None), *args, *kwargs.values()])
        return self._text(super().call(context, obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Add, multiply, raise to a power or format where the result is not too large."""
        sizes = _size(left), _size(right)
        if operator == "+":
            estimate = sum(sizes)
        elif isinstance(left, int) and isinstance(right, int):
            estimate = left.bit_length() * max(right, 1) if operator == "**" else sum(sizes)
        else:
            factors = [abs(each) for each in (left, right) if isinstance(each, int)]
            estimate = max(sizes) * max(factors, default=1)
        if estimate > _LARGEST_VALUE or (operator == "%" and isinstance(left, str)):
            raise TemplateError("it makes too large a value")
        return super().call_binop(context, operator, left, right)


def _check_arguments(values: Sequence[object]) -> None:
    """Refuse what could make a huge value: large numbers, and texts that could be multiplied with one another."""
    if any(isinstance(each, int) and abs(each) > _LARGEST_VALUE for each in values):
        raise TemplateError("it asks for too large a value")
    if math.prod(max(1, _size(each)) for each in values if isinstance(each, (str, list, tuple))) > _LARGEST_PRODUCT:
        raise TemplateError("it could make too large a value")


def _size(value: object) -> int:
    if isinstance(value, int):
        return value.bit_length()
    return len(value) if isinstance(value, (str, bytes, list, tuple)) else 0


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
