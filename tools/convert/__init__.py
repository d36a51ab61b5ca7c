"""Turn a Hugging Face checkpoint into a GGUF model file, and quantize it: ``python -m tools.convert --help``.

From the checkpoint to the file::

    json_files          JSON and text files, with errors that name the file
    safetensors_files   headers read and checked, tensors read in bounded pieces
    checkpoint          the folder: config.json, tensors of one file or of shards
    architectures       per architecture: tensor names and shapes, settings that llama.cpp takes for granted
    sentence_modules    how a sentence encoder pools its tokens' vectors
    hyperparameters     the keys under the architecture's name
    tokenizer_files     tokenizer.json, or vocab.json and merges.txt, read into one
    pre_tokenizers      which pre-tokenizer of llama.cpp's cuts text as this tokenizer does
    wordpiece           BERT's tokenizer
    added_tokens        control tokens and other tokens added to the vocabulary
    special_tokens      the tokens with a role, and those put around every text
    chat_templates      the chat template, wherever it is kept
    tokenizer           all of the tokenizer as a GGUF stores it
    model_card          general.* metadata: name, licence, sampling defaults
    number_types        f32, f16 and bf16 into one another
    gguf_output         the GGUF, tensor by tensor
    conversion          all of it in order
    hub_checkpoint      a checkpoint of the hub, pulled into its cache

What can be done with the file::

    routing_prompts         the prompts to calibrate and to compare on, shipped in calibration/ or from a file
    graph_tensors           llama.cpp's compute graph, seen from its evaluation callback
    imatrix_collection      importance matrices
    file_comparison         tensors and metadata of two files
    distribution_comparison next-token distributions and decisions of two models
    verification            both comparisons, and a verdict
    record                  the JSON beside a model that says how it was made

The commands::

    cli, progress           all of them; convert is meant where none is named
    convert_command         from a checkpoint to quantized, verified and recorded files
    imatrix_command         collecting
    verify_command          comparing
    compare_upstream        a developer's command: our files against llama.cpp's own converter
    upstream_cases          what it compares
    compare_embeddings      another one: an encoder's vectors against those of sentence-transformers
    compare_quantization    another one: importance matrices and levels against llama.cpp's own tools
"""
