from __future__ import annotations

import pytest

from archroute_edge.config import parse_config
from archroute_edge.errors import ConfigError

ROUTES = """routing_preferences:
  - name: math
    description: arithmetic and algebra
"""


def after(line: str) -> str:
    """A file of our own whose second line is the given one, with valid routes below."""
    return f"# our own format\n{line}\n{ROUTES}"


BAD_FILES = [
    pytest.param("", None, "empty", id="empty"),
    pytest.param("# only a comment\n", None, "empty", id="comment"),
    pytest.param("- a\n- b\n", 1, "must be a mapping (key: value), not a list", id="list"),
    pytest.param("hello", 1, "must be a mapping", id="text"),
    pytest.param("version: v0.4.0\n", None, "no routes", id="no-routes"),
    pytest.param("version: 1\nrouting_preferences: []\n", 2, "no routes", id="empty-routes"),
    pytest.param("routing_preferences:\n", None, "no routes", id="null-routes"),
    pytest.param("routing_preferences: math\n", 1, "routing_preferences must be a list, not text", id="routes-text"),
    pytest.param("a: [1\nb: 2\n", 2, "malformed YAML", id="unclosed"),
    pytest.param("a: 1\n\tb: 2\n", 2, "malformed YAML", id="tab"),
    pytest.param("a: *nowhere\n", 1, "malformed YAML: found undefined alias", id="undefined-alias"),
    pytest.param("a: 1\n---\nb: 2\n", 2, "more than one YAML document", id="two-documents"),
    pytest.param('a: "\\UFFFFFFFF"\n', None, "malformed YAML", id="impossible-escape"),
    pytest.param("a: 1\nb: \x07\n", 2, "character", id="control-character"),
    pytest.param("a: 1\nb: !!python/object:os.system x\n", 2, "tag", id="python-tag"),
    pytest.param("? [a, b]\n: c\n", 1, "key must be plain text", id="list-key"),
    pytest.param(after("agents: {a: &x [*x]}"), 2, "contains itself", id="recursive-anchor"),
    pytest.param(after("<<: 3"), 2, "'<<' merges", id="bad-merge"),
    pytest.param(ROUTES + ROUTES, 4, "'routing_preferences' appears twice in one mapping (first on line 1)", id="duplicate"),
    pytest.param(after("tracing: {a: 1, b: 2,\n  a: 3}"), 3, "'a' appears twice", id="duplicate-in-ignored"),
    pytest.param(after("routing_preference: []"), 2, "did you mean 'routing_preferences'?", id="unknown-top"),
    pytest.param("- {name: a, models: [b/c]}\n", 1, "write the list under 'routing_preferences'", id="list-of-routes"),
    pytest.param(after("default_model: $MODEL"), 2, "default_model: '$MODEL' holds an environment variable", id="env-default"),
    pytest.param("routing_preferences:\n - name: a\n   priority: 1\n", 3, "routes have no priority", id="own-priority"),
    pytest.param(
        after("model_providers: [{model: a/b}]\ndefault_model: b\nprompt_cacheing: {}"),
        4,
        "unknown key 'prompt_cacheing'",
        id="default_model-makes-it-ours",
    ),
    pytest.param(after("routes: []"), 2, "did you mean 'routing_preferences'?", id="unknown-top-hint"),
    pytest.param(after("model_providers: {model: a/b}"), 2, "model_providers must be a list, not a mapping", id="providers"),
    pytest.param(after("model_providers: [{name: x}]"), 2, "without 'model'", id="provider-without-model"),
    pytest.param(after("model_providers: [{model: a/b},\n  {model: a/b}]"), 3, "defined twice (first on line 2)", id="twice"),
    pytest.param(
        after("model_providers: [{model: a/b, default: true},\n  {model: c/d, default: true}]"),
        3,
        "a second default model; the first is 'a/b'",
        id="two-defaults",
    ),
    pytest.param(after("model_providers: [{model: a/*, default: true}]"), 2, "cannot be the default", id="default-wildcard"),
    pytest.param(
        after("model_providers: [{model: a/*, routing_preferences: [{name: x}]}]"),
        2,
        "cannot have routing preferences",
        id="inline-wildcard",
    ),
    pytest.param(
        after("llm_providers: [{model: a/b}]\nmodel_providers: [{model: a/b}]"), 3, "keep 'model_providers'", id="both"
    ),
    pytest.param(
        after("model_providers: [{model: a/b, default: true}]\ndefault_model: c/d"),
        3,
        "defines no model 'c/d'",
        id="default-c",
    ),
    pytest.param(
        after("model_providers: [{model: a/b, default: true}, {model: c/d}]\ndefault_model: c/d"),
        3,
        "not the provider marked as default ('a/b')",
        id="default-differs",
    ),
    pytest.param(after("model_aliases: {x: {}}"), 2, "'target' or 'targets'", id="alias-empty"),
    pytest.param(after("model_aliases: {x: {target: a, targets: []}}"), 2, "'target' or 'targets'", id="alias-both"),
    pytest.param(after("model_aliases: {x: {target: y}, y: {target: a}}"), 2, "points to the alias 'y'", id="alias-chain"),
    pytest.param(after("model_aliases: {x: {targets: []}}"), 2, "no target with a weight above 0", id="targets-none"),
    pytest.param(
        after("model_aliases: {x: {targets: [{model: a}]}}"), 2, "a target of a model alias without 'weight'", id="no-weight"
    ),
    pytest.param(after("model_aliases: {x: {targets: [{model: a, weight: -1}]}}"), 2, "below 0", id="weight-negative"),
    pytest.param(
        after("model_aliases: {x: {targets: [{model: a, weight: 1},\n  {model: a, weight: 2}]}}"),
        3,
        "twice",
        id="target-twice",
    ),
    pytest.param(
        after("model_providers: [{model: openai/gpt-4o}]\nmodel_aliases:\n  x: {target: gpt-4}"),
        4,
        "the alias 'x': the file defines no model 'gpt-4'",
        id="alias-undefined",
    ),
    pytest.param("routing_preferences:\n  - description: d\n", 2, "without 'name'", id="route-no-name"),
    pytest.param("routing_preferences:\n - name: other\n", 2, "may not be called 'other'", id="reserved"),
    pytest.param('routing_preferences:\n - {name: a}\n - {name: "\\ud800"}\n', 3, "lone surrogate", id="surrogate"),
    pytest.param(
        "routing_preferences:\n - {name: a}\n - {name: b}\n - {name: a}\n",
        4,
        "defined twice (first on line 2)",
        id="same-name",
    ),
    pytest.param(
        'routing_preferences:\n - {name: "\\u00e9"}\n - {name: "e\\u0301"}\n', 3, "defined twice", id="same-after-nfc"
    ),
    pytest.param("routing_preferences:\n - name: a\n   model: x\n", 3, "did you mean 'models'?", id="model-key"),
    pytest.param(
        "model_providers: [{model: openai/gpt-4o}]\nrouting_preferences:\n - name: a\n   models: [openai/gpt-40]\n",
        4,
        "route 'a': a model: the file defines no model 'openai/gpt-40'; did you mean 'openai/gpt-4o'?",
        id="undefined-model",
    ),
    pytest.param(
        "model_providers: [{model: groq/*}]\nrouting_preferences: [{name: a, models: ['groq/*']}]\n",
        2,
        "defines no model 'groq/*'",
        id="wildcard-itself",
    ),
    pytest.param(
        "model_providers: [{model: a/x}, {model: b/x}]\nrouting_preferences: [{name: a, models: [x]}]\n",
        2,
        "'x' could be a/x or b/x",
        id="ambiguous-model",
    ),
    pytest.param("routing_preferences:\n - name: a\n   selection_policy: {}\n", 3, "needs prefer", id="policy-empty"),
    pytest.param(
        "routing_preferences:\n - name: a\n   selection_policy:\n    prefer: best\n",
        4,
        "not 'best'",
        id="policy-unknown",
    ),
    pytest.param(
        "default_model: a/b\nmodel_providers:\n - model: a/b\n   routing_preferences:\n    - name: x\n      models: [a/b]\n",
        6,
        "top level only",
        id="inline-models",
    ),
    pytest.param(
        '{"routing_preferences": [\n{"name": "a", "modles": []}]}', 2, "did you mean 'models'?", id="json-unknown-key"
    ),
]


@pytest.mark.parametrize(("text", "line", "message"), BAD_FILES)
def test_what_cannot_be_used_is_an_error_with_its_line(text: str, line: int | None, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, path="r.yaml")
    assert message in caught.value.message
    assert caught.value.line == line
    assert str(caught.value).startswith("r.yaml:" if line is None else f"r.yaml:{line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "model_providers: [{model: a/b, access_key: [sk-secret]}]\nbad: 1\n",
        "model_providers: [{model: a/b, access_key: sk-secret, acces_key: sk-secret}]\n",
        "model_providers: [{model: a/b, access_key: sk-secret, access_key: sk-secret}]\n",
        "model_providers: [{model: a/b, access_key: !!secret sk-secret}]\n",
        "model_providers: [{model: a/b, access_key: 'sk-secret}]\n",
        "model_providers: [{model: {access_key: sk-secret}}]\n",
    ],
)
def test_secrets_stay_out_of_messages(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert "sk-secret" not in str(caught.value)
