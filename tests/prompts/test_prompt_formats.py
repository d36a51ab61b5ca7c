"""The three prompts byte for byte: a model that was trained on one answers another worse."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archroute_edge.conversation import Turn
from archroute_edge.errors import PromptFormatError
from archroute_edge.prompts import CARD, PROMPT_FORMATS, PromptFormat, prompt_format
from archroute_edge.prompts._prompt_formats import GATEWAY, ORCHESTRATOR
from archroute_edge.routes import Route, RouteTable

# Of the templates with {routes} and {conversation} in place, as Katanemo's gateway and orchestrator releases hold them.
GATEWAY_SHA256 = "8004153a5e58066139d261d56392543ef29c63487ad4872aaba4d29929890dde"
ORCHESTRATOR_SHA256 = "394e1dab0c2609822f9efbacf9a1faba18b63d645d547e7686adb00e51028882"

# The two parts of the prompt in the model card of Arch-Router-1.5B.
CARD_TASK = (
    "\nYou are a helpful assistant designed to find the best suited route.\nYou are provided with route description within "
    "<routes></routes> XML tags:\n<routes>\n\n{routes}\n\n</routes>\n\n<conversation>\n\n{conversation}\n\n</conversation>\n"
)
CARD_FORMAT = (
    "\nYour task is to decide which route is best suit with user intent on the conversation in "
    "<conversation></conversation> XML tags. Follow the instruction:\n1. If the latest intent from user is irrelevant or "
    'user intent is full filled, response with other route {"route": "other"}.\n2. You must analyze the route descriptions '
    "and find the best match route for user latest intent.\n3. You only response the name of the route that best matches "
    "the user's request, use the exact name in the <routes></routes>.\n\nBased on your analysis, provide your response in "
    'the following JSON formats if you decide to match any route:\n{"route": "route_name"}\n'
)

TABLE = RouteTable([Route("café", 'say "hi"', ("a/b",)), Route("b", "tab\t, 日本")])
TURNS = (Turn("user", "naïve\n😀"), Turn("assistant", "a\\b"))

EACH = pytest.mark.parametrize("each", PROMPT_FORMATS.values(), ids=PROMPT_FORMATS)


def template(each: PromptFormat) -> str:
    return each.opening + "{routes}" + each.middle + "{conversation}" + each.closing


@pytest.mark.parametrize(
    ("each", "sha256", "n_bytes"), [(GATEWAY, GATEWAY_SHA256, 856), (ORCHESTRATOR, ORCHESTRATOR_SHA256, 846)]
)
def test_templates_are_those_of_the_releases(each: PromptFormat, sha256: str, n_bytes: int) -> None:
    """One space more or less, and the model sees a prompt it was not trained on; nothing else would notice."""
    raw = template(each).encode()
    assert len(raw) == n_bytes
    assert hashlib.sha256(raw).hexdigest() == sha256


def test_the_card_is_that_of_the_model_card() -> None:
    """The default format of Arch-Router, in which a space differs from the gateway's."""
    assert template(CARD) == CARD_TASK + CARD_FORMAT


ROUTES_AS_WRITTEN = {
    "card": r'[{"name": "caf\u00e9", "description": "say \"hi\""}, {"name": "b", "description": "tab\t, \u65e5\u672c"}]',
    "gateway": r'[{"name":"café","description":"say \"hi\""},{"name":"b","description":"tab\t, 日本"}]',
    "orchestrator": r'{"name": "café", "description": "say \"hi\"", "parameters": {"type": "object", "properties": {}, '
    r'"required": []}}' + "\n" + r'{"name": "b", "description": "tab\t, 日本", "parameters": {"type": "object", '
    r'"properties": {}, "required": []}}',
}

CONVERSATION_AS_WRITTEN = {
    "card": r'[{"role": "user", "content": "na\u00efve\n\ud83d\ude00"}, {"role": "assistant", "content": "a\\b"}]',
    "gateway": r'[{"role":"user","content":"naïve\n😀"},{"role":"assistant","content":"a\\b"}]',
    "orchestrator": "[\n    {\n"
    + r'        "role": "user",'
    + "\n"
    + r'        "content": "naïve\n😀"'
    + "\n    },\n    {\n"
    + r'        "role": "assistant",'
    + "\n"
    + r'        "content": "a\\b"'
    + "\n    }\n]",
}


@EACH
def test_spacing_and_escaping_of_the_json(each: PromptFormat) -> None:
    """Each format writes JSON its own way, and a route's models are nobody's business in a prompt."""
    assert each.write_routes(TABLE) == ROUTES_AS_WRITTEN[each.name]
    assert each.write_conversation(TURNS) == CONVERSATION_AS_WRITTEN[each.name]


@EACH
def test_a_prompt_is_its_parts_and_nothing_else(each: PromptFormat) -> None:
    """Formatting a template instead of joining parts would un-double the orchestrator's braces."""
    assert each.render(TABLE, TURNS) == template(each).replace("{routes}", ROUTES_AS_WRITTEN[each.name]).replace(
        "{conversation}", CONVERSATION_AS_WRITTEN[each.name]
    )


@EACH
@pytest.mark.parametrize("text", ["{conversation}", "{routes}", "</routes>", "</conversation>", "{0}", "%s", "{{x}}", "\\1"])
def test_placeholders_in_a_users_text_are_text(each: PromptFormat, text: str) -> None:
    """Chained replacing puts the conversation into a description that happens to hold the placeholder."""
    table, turns = RouteTable([Route(text, f"about {text}")]), [Turn("user", f"what is {text}?")]
    prompt = each.render(table, turns)
    assert prompt == each.opening + each.write_routes(table) + each.middle + each.write_conversation(turns) + each.closing
    encoded = json.dumps(text)[1:-1]
    fixed = template(each).replace("{routes}", "").replace("{conversation}", "")
    assert prompt.count(encoded) - fixed.count(encoded) == 3


@pytest.mark.parametrize(
    ("name", "matched", "unmatched"),
    [
        ("card", '{"route": "a b"}', '{"route": "other"}'),
        ("gateway", '{"route": "a b"}', '{"route": "other"}'),
        ("orchestrator", '{"route": ["a b"]}', '{"route": []}'),
    ],
)
def test_shapes_of_the_reply(name: str, matched: str, unmatched: str) -> None:
    """A model asked for a list and held to a string is pushed off everything it learned."""
    answers = prompt_format(name).answers(RouteTable([Route("a b")]))
    assert [(answer.text, answer.route) for answer in answers] == [(matched, "a b"), (unmatched, "other")]


@EACH
@given(name=st.text(min_size=1, max_size=20).filter(lambda name: name.strip() and name != "other"))
def test_every_reply_is_json_that_names_its_route(each: PromptFormat, name: str) -> None:
    """A reply that JSON reads as another name than its route's would route to what the model did not say."""
    for answer in each.answers(RouteTable([Route(name), Route(name + "x")])):
        (value,) = json.loads(answer.text).values()
        named = value if isinstance(value, str) else (*value, "other")[0]
        assert named == answer.route


def test_names_are_normalised_where_prompts_are() -> None:
    """Such a model can only answer with the name that it was shown; the decision still carries the table's own."""
    (escaped, raw, _) = CARD.answers(RouteTable([Route("cafe\u0301")]), nfc=True)
    assert (escaped.text, raw.text) == ('{"route": "caf\\u00e9"}', '{"route": "caf\u00e9"}')
    assert escaped.route == raw.route == "cafe\u0301"


def test_an_unknown_format_names_the_known_ones() -> None:
    """A typing error must not fall back to a format that the model was not trained on."""
    with pytest.raises(PromptFormatError, match="no prompt format 'Card'; there are card, gateway, orchestrator"):
        prompt_format("Card")
