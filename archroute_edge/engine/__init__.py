"""The seam to llama.cpp: loading checked GGUF files, evaluating tokens, logits, saved sequences."""
