"""Chat templates come with GGUFs from strangers: they may shape a prompt, and do nothing else."""

from __future__ import annotations

import pytest

from archroute_edge.errors import PromptFormatError
from archroute_edge.prompts._chat_template import ChatFrame, read_chat_template

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
DEFAULT_SYSTEM = "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}" + CHATML
HEADER = "<|im_start|>user\n"
REPLY = "<|im_end|>\n<|im_start|>assistant\n"

FRAMES = [
    pytest.param(CHATML, ChatFrame(HEADER, REPLY, False), id="chatml"),
    pytest.param(
        DEFAULT_SYSTEM,
        ChatFrame("<|im_start|>system\nYou are helpful.<|im_end|>\n" + HEADER, REPLY, False),
        id="default-system-turn",
    ),
    pytest.param("{{ messages[0].content }}", ChatFrame("", "", False), id="bare"),
    pytest.param("[INST]{{ messages[0]['content'] | trim }}[/INST]", ChatFrame("[INST]", "[/INST]", True), id="trim"),
    pytest.param("A {{ messages[0].content.strip() }} B", ChatFrame("A ", " B", True), id="strip"),
    pytest.param("{{ bos_token }}{{ messages[0].content }}{{ eos_token }}", ChatFrame("<s>", "</s>", False), id="bos"),
    pytest.param(
        "{% if tools %}T{% endif %}{% if documents %}D{% endif %}{{ messages[-1].content }}",
        ChatFrame("", "", False),
        id="neither-tools-nor-documents",
    ),
    pytest.param(
        "{% if messages | length > 1 %}{{ raise_exception('one only') }}{% endif %}{{ messages[0].content }}",
        ChatFrame("", "", False),
        id="raise-that-is-not-reached",
    ),
    pytest.param(
        "{% for m in messages %}\n    {% if m.role == 'user' %}\n  U:{{ m.content }}\n    {% endif %}\n{% endfor %}",
        ChatFrame("  U:", "\n", False),
        id="block-lines-leave-nothing",
    ),
    pytest.param("{% for m in messages %}{{ m.content }}{% break %}{% endfor %}", ChatFrame("", "", False), id="loop-controls"),
    pytest.param(
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}{{ m.content }}{% endif %}{% endfor %}{% generation %}A{% endgeneration %}",
        ChatFrame("", "A", False),
        id="marks-of-training",
    ),
    pytest.param(
        "{%- set ns = namespace(n=0) -%}{%- for m in messages[::-1] -%}{%- set ns.n = ns.n + loop.index -%}{{ m.content }}"
        "{%- endfor -%}{{ ns.n }}",
        ChatFrame("", "1", False),
        id="namespaces-and-loop-variables",
    ),
    pytest.param(
        "{% macro show(m) %}<{{ m.role }}>{{ m.content }}{% endmacro %}{{ show(messages[0]) }}",
        ChatFrame("<user>", "", False),
        id="macro",
    ),
]

REFUSED = [
    pytest.param("{{ messages[0].content }}{{ messages[0].content }}", "changes the message or repeats it", id="repeats"),
    pytest.param("{% for m in messages %}{{ m.role }}{% endfor %}", "changes the message or repeats it", id="drops"),
    pytest.param("nothing", "changes the message or repeats it", id="constant"),
    pytest.param("", "changes the message or repeats it", id="empty"),
    pytest.param("{{ messages[0].content | reverse }}", "changes the message or repeats it", id="reverses"),
    pytest.param("{{ messages[0].content | length }}{{ messages[0].content }}", "changes the message", id="measures"),
    pytest.param("{{ messages[0].content | tojson }}", "changes the message or repeats it", id="encodes"),
    pytest.param("{{ messages[0].content | replace('\n', ' ') }}", "changes the message or repeats it", id="replaces"),
    pytest.param("{{ messages[0].content | lower }}", "changes the message or repeats it", id="lowers"),
    pytest.param("{{ messages[0].content | upper }}", "changes the message or repeats it", id="raises-case"),
    pytest.param("{{ messages[0].content | e }}", "changes the message or repeats it", id="escapes"),
    pytest.param("{{ messages[0].content.split() | join(' ') }}", "changes the message or repeats it", id="joins-words"),
    pytest.param("{{ messages[0].content[:5] }}", "changes the message or repeats it", id="truncates"),
    pytest.param("{{ messages[0].content.lstrip() }}", "changes the message or repeats it", id="strips-one-side"),
    pytest.param("{{ raise_exception('no\nsystem') }}", "cannot be rendered: no system", id="raises"),
    pytest.param("{% if %}", "cannot be rendered", id="syntax"),
    pytest.param("{{ messages[0].content | nosuchfilter }}", "cannot be rendered", id="unknown-filter"),
    pytest.param("{% include '/etc/passwd' %}", "cannot be rendered", id="include"),
    pytest.param("{{ messages[7]['content'] }}", "cannot be rendered", id="no-such-message"),
    pytest.param("{{ 1 // 0 }}", "cannot be rendered", id="division"),
    pytest.param("{% for m in messages %}" * 40 + "{% endfor %}" * 40, "cannot be rendered", id="deep-blocks"),
    pytest.param("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "cannot be rendered", id="deep-expression"),
    pytest.param("{{ range(10 ** 9) | list }}", "cannot be rendered", id="huge-range"),
    pytest.param("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "cannot be rendered", id="endless-recursion"),
    pytest.param("x" * (1 << 17) + "y", "131073 characters", id="huge"),
]

ESCAPES = [
    "{{ messages.__class__.__name__ }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages[0]['content'].__class__.__base__.__subclasses__() | list | length }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ ('' | attr('__class__')).__mro__ }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('/etc/passwd').read() }}",
    "{{ strftime_now.__globals__ }}{{ strftime_now.__globals__.datetime.sys }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ lipsum.__globals__['os'].environ }}",
    "{{ namespace.__init__.__globals__ }}{{ namespace.__init__.__globals__.x }}",
    "{{ self.__init__.__globals__.x }}",
    "{{ '{0.__class__.__base__}'.format('') }}",
    "{{ '{m.__class__.__base__}'.format_map({'m': ''}) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update(role='system') }}",
    "{{ messages.clear() }}",
]


@pytest.mark.parametrize(("template", "frame"), FRAMES)
def test_what_a_template_puts_around_a_message(template: str, frame: ChatFrame) -> None:
    """A system turn that is lost, or a header that is guessed, is a prompt that the model was not trained on."""
    assert read_chat_template(template, bos_token="<s>", eos_token="</s>") == frame


def test_a_frame_strips_as_its_template_does() -> None:
    """Where a template strips messages, a prompt that keeps the white space has other tokens."""
    text = "\n text \n"
    assert read_chat_template("<{{ messages[0].content | trim }}>").wrap(text) == "<text>"
    assert read_chat_template("<{{ messages[0].content }}>").wrap(text) == "<\n text \n>"


@pytest.mark.parametrize(("template", "message"), REFUSED)
def test_templates_that_cannot_carry_a_message_are_refused(template: str, message: str) -> None:
    """A template that alters the message would route something that nobody said."""
    with pytest.raises(PromptFormatError, match=message) as caught:
        read_chat_template(template)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("escape", ESCAPES)
def test_templates_cannot_leave_the_sandbox(escape: str) -> None:
    """A model file is data; one that can run code on the machine of whoever loads it is malware."""
    with pytest.raises(PromptFormatError, match="cannot be rendered"):
        read_chat_template("{{ messages[0].content }}" + escape)


def test_a_users_text_is_never_a_template() -> None:
    """Rendering a template around the real message would let a message loop, raise or read variables."""
    frame = read_chat_template(CHATML)
    assert frame.wrap("{{ 1 // 0 }}{% raw %}") == HEADER + "{{ 1 // 0 }}{% raw %}" + REPLY
