"""The providers known by name: where their APIs are, which of them they speak, and how a key is shown to them.

Addresses are those of the providers' own pages and of Plano 0.4.36 (``config/envoy.template.yaml``,
``cli/planoai/defaults.py``), prefixes and the responses API those of its ``hermesllm/src/clients/endpoints.rs``. That Groq,
OpenRouter, Fireworks, Azure, Ollama, LM Studio, vLLM, llama-server and LiteLLM speak further APIs stands in their own
documentation. An API that a provider speaks under another path, such as DeepSeek's ``/anthropic/v1``, is reached by
``base_url`` and ``provider_interface``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from archroute_edge.record import Operation

_CHAT: Final[tuple[Operation, ...]] = ("chat",)
_OPENAI: Final[tuple[Operation, ...]] = ("chat", "responses")
_ALL: Final[tuple[Operation, ...]] = ("chat", "responses", "messages")


@dataclass(frozen=True)
class Provider:
    """A provider, or a server program, that is known by name.

    Args:
        name: as configurations write it first of all.
        host: its address without a path; empty where each user has another one.
        prefix: the path before ``/chat/completions`` and the others.
        operations: the APIs that it speaks itself.
        otel: its name in OpenTelemetry's ``gen_ai.provider.name``; empty for ``name``.
        key_header: the header of a key; ``authorization`` has ``Bearer`` before it.
        messages_key_header: the same on the messages API.
        needs_key: whether nothing is answered without a key.
        takes_clients_key: whether it is made for the credentials of its users, so that the client's go there.
        unreachable: why requests cannot be sent there, and what to do; empty for most.
    """

    name: str
    host: str
    prefix: str = "/v1"
    operations: tuple[Operation, ...] = _CHAT
    otel: str = ""
    key_header: str = "authorization"
    messages_key_header: str = "authorization"
    needs_key: bool = True
    takes_clients_key: bool = False
    unreachable: str = ""

    @property
    def otel_name(self) -> str:
        """What OpenTelemetry calls it."""
        return self.otel or self.name


_BEDROCK: Final = (
    "Amazon Bedrock's own API is not spoken here; give the base_url of its OpenAI-compatible one and provider_interface: openai"
)
_KNOWN: Final = (
    Provider("openai", "https://api.openai.com", operations=_OPENAI),
    Provider("anthropic", "https://api.anthropic.com", operations=("chat", "messages"), messages_key_header="x-api-key"),
    Provider("gemini", "https://generativelanguage.googleapis.com", "/v1beta/openai", otel="gcp.gemini"),
    Provider("mistral", "https://api.mistral.ai", otel="mistral_ai"),
    Provider("groq", "https://api.groq.com", "/openai/v1", _OPENAI),
    Provider("together_ai", "https://api.together.ai"),
    Provider("deepseek", "https://api.deepseek.com"),
    Provider("xai", "https://api.x.ai", operations=_OPENAI, otel="x_ai"),
    Provider("openrouter", "https://openrouter.ai", "/api/v1", _ALL),
    Provider("fireworks", "https://api.fireworks.ai", "/inference/v1", _OPENAI),
    Provider("cerebras", "https://api.cerebras.ai"),
    Provider("perplexity", "https://api.perplexity.ai", ""),
    Provider("moonshotai", "https://api.moonshot.ai", otel="moonshot_ai"),
    Provider("zhipu", "https://open.bigmodel.cn", "/api/paas/v4"),
    Provider("qwen", "", "/compatible-mode/v1"),
    Provider("xiaomi", "https://api.xiaomimimo.com"),
    Provider("digitalocean", "https://inference.do-ai.run"),
    Provider("vercel", "https://ai-gateway.vercel.sh", operations=_ALL),
    Provider("edenai", "https://api.edenai.run", "/v3"),
    Provider("azure_openai", "", "/openai/v1", _OPENAI, "azure.ai.openai", "api-key"),
    Provider("amazon_bedrock", "", otel="aws.bedrock", unreachable=_BEDROCK),
    Provider("chatgpt", "https://chatgpt.com", "/backend-api/codex", ("responses",), "openai", takes_clients_key=True),
    Provider("ollama", "http://localhost:11434", operations=_ALL, needs_key=False),
    Provider("lmstudio", "http://localhost:1234", operations=_ALL, needs_key=False),
    Provider("vllm", "http://localhost:8000", operations=_ALL, needs_key=False),
    Provider("llama-server", "http://localhost:8080", operations=_ALL, needs_key=False),
    Provider("litellm", "http://localhost:4000", operations=_ALL, needs_key=False),
)
_OTHER_SPELLINGS: Final = {
    "claude": "anthropic",
    "google": "gemini",
    "mistralai": "mistral",
    "together": "together_ai",
    "togetherai": "together_ai",
    "x_ai": "xai",
    "grok": "xai",
    "fireworks_ai": "fireworks",
    "moonshot": "moonshotai",
    "z_ai": "zhipu",
    "zai": "zhipu",
    "dashscope": "qwen",
    "azure": "azure_openai",
    "amazon": "amazon_bedrock",
    "bedrock": "amazon_bedrock",
    "do": "digitalocean",
    "do_ai": "digitalocean",
    "lm_studio": "lmstudio",
    "llama_cpp": "llama_server",
    "llama.cpp": "llama_server",
    "llamacpp": "llama_server",
}
_BY_NAME: Final = {each.name.replace("-", "_"): each for each in _KNOWN}

PROVIDER_NAMES: Final = tuple(each.name for each in _KNOWN)
"""The names of known providers, one spelling of each."""


def known_provider(name: str) -> Provider | None:
    """The provider of a name, in any of its spellings; None for an unknown one."""
    spelling = name.strip().lower().replace("-", "_").replace(" ", "_")
    return _BY_NAME.get(_OTHER_SPELLINGS.get(spelling, spelling))
