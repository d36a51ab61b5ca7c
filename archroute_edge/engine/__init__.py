"""The seam to llama.cpp: tokens in, logits or vectors out. Only ``quantize`` imports ``llama_cpp`` beside it.

It checks a GGUF before llama.cpp opens it, chooses CPU kernels that are safe and fast, loads models, evaluates tokens or
texts, copies and saves sequences, and stops an evaluation that is cancelled or past its deadline.

Used by: every room below it. Other rooms import only the names below; modules with an underscore belong to this room.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from archroute_edge._exports import lazily
from archroute_edge.engine import _cpu, _openmp

# Before anything in this room loads llama.cpp.
_openmp.load_openmp(_cpu.library_folder(), None if _cpu.is_library_named() else "llama_cpp_python")

if TYPE_CHECKING:
    from archroute_edge.engine._backend import build, physical_cores
    from archroute_edge.engine._cancellation import Cancellation, lead
    from archroute_edge.engine._charsmap import CharsMap, is_charsmap
    from archroute_edge.engine._completion import FLASH_ATTENTION_DEPTH, N_SEQUENCES, CompletionEngine, EngineSettings
    from archroute_edge.engine._cpu_build import (
        compiler_of_build,
        describe_features,
        features_beyond_portable,
        features_of_build,
        required_features,
    )
    from archroute_edge.engine._embedding import N_TEXTS, EmbeddingEngine, EncodedText, Vectors, batches
    from archroute_edge.engine._engine_choice import EngineChoice, choose_engine, fits_ik, soundness
    from archroute_edge.engine._engine_names import ENGINES, EngineName, WantedEngine
    from archroute_edge.engine._engines import open_engine
    from archroute_edge.engine._gguf_header import (
        DEFAULT_KV_TYPE,
        KV_TYPES,
        TENSOR_TYPES,
        GGUFHeader,
        MetadataArray,
        TensorEntry,
        is_quantized_kv,
        read_array,
        read_header,
        read_texts,
    )
    from archroute_edge.engine._gpus import unused_gpus
    from archroute_edge.engine._ik_binding import ik_version
    from archroute_edge.engine._ik_status import IkStatus, ik_status
    from archroute_edge.engine._interface import BatchToken, Engine, Logits, sequence_batch
    from archroute_edge.engine._kernel_trial import KernelVerdict, chosen_kernels, rebuild_command
    from archroute_edge.engine._llama_engine import LlamaEngine
    from archroute_edge.engine._loaded_model import LoadedModel
    from archroute_edge.engine._model_check import ModelKind, check_model_file, model_fingerprint, model_kind
    from archroute_edge.engine._products import inner_products
    from archroute_edge.engine._unigram import UnigramTokenizer
    from archroute_edge.engine._vocabulary import GrammarSampler, Vocabulary
else:
    __getattr__, __all__ = lazily(
        __name__,
        {
            "_backend": "build physical_cores",
            "_cancellation": "Cancellation lead",
            "_charsmap": "CharsMap is_charsmap",
            "_completion": "CompletionEngine EngineSettings FLASH_ATTENTION_DEPTH N_SEQUENCES",
            "_cpu_build": ("compiler_of_build describe_features features_beyond_portable features_of_build required_features"),
            "_engine_choice": "EngineChoice choose_engine fits_ik soundness",
            "_engine_names": "ENGINES EngineName WantedEngine",
            "_engines": "open_engine",
            "_embedding": "EmbeddingEngine EncodedText N_TEXTS Vectors batches",
            "_gguf_header": (
                "DEFAULT_KV_TYPE GGUFHeader KV_TYPES MetadataArray TENSOR_TYPES TensorEntry is_quantized_kv read_array "
                "read_header read_texts"
            ),
            "_gpus": "unused_gpus",
            "_ik_binding": "ik_version",
            "_ik_status": "IkStatus ik_status",
            "_interface": "BatchToken Engine Logits sequence_batch",
            "_kernel_trial": "KernelVerdict chosen_kernels rebuild_command",
            "_llama_engine": "LlamaEngine",
            "_loaded_model": "LoadedModel",
            "_model_check": "ModelKind check_model_file model_fingerprint model_kind",
            "_products": "inner_products",
            "_unigram": "UnigramTokenizer",
            "_vocabulary": "GrammarSampler Vocabulary",
        },
    )
