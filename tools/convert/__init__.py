"""Turn a Hugging Face checkpoint into a GGUF model file, and quantize it: ``python -m tools.convert --help``.

From the checkpoint to the file::

    json_files          JSON and text files, with errors that name the file
    safetensors_files   headers read and checked, tensors read in bounded pieces
    checkpoint          the folder: config.json, tensors of one file or of shards
    architectures       per architecture: tensor names and shapes, settings that llama.cpp takes for granted
    hyperparameters     the keys under the architecture's name
    tokenizer_files     tokenizer.json, or vocab.json and merges.txt, read into one
    pre_tokenizers      which pre-tokenizer of llama.cpp's cuts text as this tokenizer does
    added_tokens        control tokens and other tokens added to the vocabulary
    chat_templates      the chat template, wherever it is kept
    tokenizer           all of the tokenizer as a GGUF stores it
    model_card          general.* metadata: name, licence, sampling defaults
    number_types        f32, f16 and bf16 into one another
    gguf_output         the GGUF, tensor by tensor
    conversion          all of it in order
    cli, progress       the command
    compare_upstream    a developer's command: our files against llama.cpp's own converter
"""
