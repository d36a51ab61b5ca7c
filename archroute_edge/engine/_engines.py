"""From a loaded model to the engine that evaluates it."""

from __future__ import annotations

from archroute_edge.engine._completion import CompletionEngine, EngineSettings
from archroute_edge.engine._loaded_model import LoadedModel


def open_engine(model: LoadedModel, settings: EngineSettings) -> CompletionEngine:
    """An engine over a model, of the library that has its weights.

    Raises:
        ModelLoadError: no context could be made (usually: too little memory for ``n_ctx``, or heads that a quantized
            ``kv_type`` does not fit).
    """
    if model.engine == "ik":
        from archroute_edge.engine._ik_engine import IkEngine

        return IkEngine(model, settings)
    from archroute_edge.engine._llama_engine import LlamaEngine

    return LlamaEngine(model, settings)
