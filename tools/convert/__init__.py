"""Convert a Hugging Face checkpoint to GGUF and quantize it: ``python -m tools.convert --help``.

From the checkpoint to the file::

    json_files              JSON and text files, with errors that name the file
    safetensors_files       headers checked, tensors read in bounded pieces
    checkpoint              the folder: config.json, tensors in one file or in shards
    architectures           per architecture: tensor names and shapes, settings that llama.cpp assumes
    sentence_modules        how a sentence encoder pools its tokens' vectors
    hyperparameters         the keys under the architecture's name
    tokenizer_files         tokenizer.json, or vocab.json and merges.txt, in one shape
    pre_tokenizers          llama.cpp's pre-tokenizer that splits text as this tokenizer does
    wordpiece               BERT's tokenizer
    unigram                 XLM-RoBERTa's tokenizer
    added_tokens            control tokens and other tokens added to the vocabulary
    special_tokens          tokens with a role, and those around every text
    chat_templates          the chat template, wherever it is kept
    tokenizer               the whole tokenizer as a GGUF stores it
    model_card              general.* metadata: name, licence, sampling defaults
    number_types            conversions between f32, f16 and bf16
    gguf_output             the GGUF, tensor by tensor
    conversion              all of it in order
    hub_checkpoint          a checkpoint on the hub, pulled into its cache

Checks of the file::

    routing_prompts         prompts to calibrate and compare on, shipped in calibration/ or from a file
    graph_tensors           llama.cpp's compute graph, seen from its evaluation callback
    imatrix_collection      importance matrices
    file_comparison         tensors and metadata of two files
    distribution_comparison next-token distributions and decisions of two models
    verification            both comparisons, and a verdict
    record                  the JSON beside a model that records how it was made

Commands::

    cli                     all of them; convert is the default
    convert_command         from a checkpoint to quantized, verified and recorded files
    imatrix_command         collect an importance matrix
    verify_command          compare a file with its source
    compare_upstream        for developers: our files against those of llama.cpp's own converter
    upstream_cases          the checkpoints that it compares
    compare_embeddings      for developers: an encoder's vectors against those of sentence-transformers
    compare_quantization    for developers: importance matrices and levels against llama.cpp's own tools
"""
