"""Rendering one user message through the chat template that a GGUF carries.

GGUFs come from strangers, so the template runs in Jinja's sandbox, and it never sees a user's text: it is rendered once
around a marker, and prompts take the marker's place in what came out.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from archroute_edge.errors import PromptFormatError

# Private-use characters: no template compares against them, no tokenizer has them as a special token. Between them
# stands what a template that alters messages would alter.
_MARKER = "\ue0a1Aa  <&'\"\n\\\ue0b2\ue0c3"
# Real templates have up to 30,000 characters.
_LARGEST_TEMPLATE = 1 << 17
_LONGEST_REASON = 200


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
        rendered = _environment().from_string(template)
        padded, bare = (
            rendered.render(
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


def _environment() -> ImmutableSandboxedEnvironment:
    """Jinja's sandbox as Hugging Face's tokenizers set it up."""
    extensions = ["jinja2.ext.loopcontrols", _Generation]
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=extensions)
    environment.globals.update(raise_exception=_raise, strftime_now=_strftime_now)
    return environment


class _Generation(Extension):
    """``{% generation %}`` marks what the assistant says, for training; the text is the same without it."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja has it

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's content in its place; what it sets is not set behind it."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
