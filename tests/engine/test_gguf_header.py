"""Whatever is in a file, reading its header ends in a header or in one line that names the file."""

from __future__ import annotations

import ctypes
import random
import re
import struct
from pathlib import Path

import llama_cpp
import pytest

from archroute_edge.engine import TENSOR_TYPES, MetadataArray, read_header, read_texts
from archroute_edge.errors import ModelError, ModelFileError, ModelNotFoundError
from tests.engine.gguf_file import ARRAY, INT32, STRING, UINT32, UINT64, Entry, GGUFFile, Tensor, read_gguf


def refusal(path: Path, kind: type[ModelError] = ModelFileError) -> str:
    """The message with which ``path`` is refused: of that class itself, one line, beginning with the file."""
    with pytest.raises(kind) as caught:
        read_header(path)
    assert type(caught.value) is kind
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message[len(f"{path}: ") :]


def test_a_sound_file_is_read_as_it_was_written(random_model: Path, sound: GGUFFile) -> None:
    header = read_header(random_model)
    assert header.version == 3
    assert header.file_size == random_model.stat().st_size
    assert header.architecture == "qwen2"
    assert header.integer("qwen2.block_count") == 2
    assert header.metadata["tokenizer.ggml.add_bos_token"] is False
    assert header.length("tokenizer.ggml.tokens") == len(sound["tokenizer.ggml.tokens"].value)
    assert list(header.tensors) == [tensor.name.decode() for tensor in sound.tensors]
    assert header.tensors["token_embd.weight"].shape == (64, len(sound["tokenizer.ggml.tokens"].value))
    last = header.tensors[sound.tensors[-1].name.decode()]
    assert header.data_offset + last.offset + last.n_bytes <= header.file_size


def test_texts_of_an_array_are_read_from_the_file(random_model: Path, sound: GGUFFile) -> None:
    header = read_header(random_model)
    assert read_texts(header, "tokenizer.ggml.tokens") == sound["tokenizer.ggml.tokens"].value
    assert read_texts(header, "tokenizer.ggml.token_type") == []
    assert read_texts(header, "no.such.key") == []


def test_the_types_asked_for_are_the_types_given(sound: GGUFFile, path: Path) -> None:
    sound.set("a.text", STRING, b"words")
    sound.set("a.number", UINT64, 2**63)
    sound.set("a.list", ARRAY, [1, 2, 3], INT32)
    header = read_header(sound.write(path))
    assert header.text("a.text") == "words"
    assert header.integer("a.text") is None
    assert header.integer("a.number") == 2**63
    assert header.text("a.number") is None
    assert header.integer("tokenizer.ggml.add_bos_token") is None
    assert header.metadata["a.list"] == MetadataArray(INT32, 3, header.metadata["a.list"].offset, 12)  # type: ignore[union-attr]
    assert header.length("a.text") is None


def test_version_2_is_read(sound: GGUFFile, path: Path) -> None:
    sound.version = 2
    assert read_header(sound.write(path)).version == 2


def test_no_file(path: Path) -> None:
    assert "no such file" in refusal(path, ModelNotFoundError)


def test_a_folder(tmp_path: Path) -> None:
    assert "folder" in refusal(tmp_path)


def test_a_path_that_leads_through_a_file(path: Path) -> None:
    path.write_bytes(b"x")
    assert "cannot be read" in refusal(path / "model.gguf")


@pytest.mark.parametrize("content", [b"", b"G", b"GGUF", b"GGUF\x03\0\0\0", b"GGUF" + bytes(19)])
def test_too_short(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert re.search("empty|too few", refusal(path))


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes(path: Path, seed: int) -> None:
    draw = random.Random(seed)
    path.write_bytes(draw.randbytes(draw.randrange(24, 5000)))
    assert "not a GGUF file" in refusal(path)


@pytest.mark.parametrize("seed", range(40))
def test_random_bytes_behind_a_right_beginning(path: Path, seed: int) -> None:
    draw = random.Random(seed)
    counts = struct.pack("<QQ", draw.randrange(4), draw.randrange(1, 4))
    path.write_bytes(b"GGUF\x03\0\0\0" + counts + draw.randbytes(draw.randrange(1000)))
    refusal(path)


def test_another_format(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert "a zip archive; unpack it" in refusal(path)


@pytest.mark.parametrize(("version", "hint"), [(0, ""), (1, ""), (4, ""), (3 << 24, "big-endian")])
def test_other_versions(sound: GGUFFile, path: Path, version: int, hint: str) -> None:
    sound.version = version
    message = refusal(sound.write(path))
    assert "version" in message
    assert hint in message


def test_truncated_anywhere_in_the_header(random_model: Path, path: Path) -> None:
    raw = random_model.read_bytes()
    n_header = len(read_gguf(random_model).header())
    for length in [*range(24, n_header, 97), n_header - 1, n_header]:
        path.write_bytes(raw[:length])
        assert re.search("damaged|truncated", refusal(path)), length


def test_truncated_anywhere_in_the_data(random_model: Path, path: Path) -> None:
    raw = random_model.read_bytes()
    header = read_header(random_model)
    end = max(header.data_offset + tensor.offset + tensor.n_bytes for tensor in header.tensors.values())
    for length in [header.data_offset, *range(header.data_offset, end, 40_009), end - 1]:
        path.write_bytes(raw[:length])
        message = refusal(path)
        assert message.startswith("truncated: tensor ")
        assert f"the file at {length}" in message
    path.write_bytes(raw[:end])
    assert read_header(path).tensors == header.tensors


@pytest.mark.parametrize("count", [2**32, 2**62, 2**64 - 1])
def test_huge_counts(sound: GGUFFile, path: Path, count: int) -> None:
    more_entries, more_tensors = sound.copy(), sound.copy()
    more_entries.n_entries = count
    more_tensors.n_tensors = count
    for file in (more_entries, more_tensors):
        assert "do not fit" in refusal(file.write(path))


def test_counts_that_are_a_little_wrong(sound: GGUFFile, path: Path) -> None:
    for change in (-1, 1):
        file = sound.copy()
        file.n_entries = len(file.entries) + change
        refusal(file.write(path))
    sound.n_tensors = len(sound.tensors) + 1
    refusal(sound.write(path))


@pytest.mark.parametrize("length", [10_000, 2**31, 2**62, 2**64 - 1])
def test_lengths_that_do_not_fit(path: Path, length: int) -> None:
    head = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    key = struct.pack("<Q", 1) + b"k"
    forms = {
        "key": struct.pack("<Q", length) + b"k",
        "text": key + struct.pack("<IQ", STRING, length),
        "numbers": key + struct.pack("<IIQ", ARRAY, UINT32, length),
        "texts": key + struct.pack("<IIQ", ARRAY, STRING, length),
        "text in an array": key + struct.pack("<IIQQ", ARRAY, STRING, 1, length),
    }
    for what, body in forms.items():
        path.write_bytes(head + body + bytes(64))
        assert re.search("fit|past the end", refusal(path)), what


def test_a_key_that_stands_twice(sound: GGUFFile, path: Path) -> None:
    sound.entries.append(Entry(b"general.name", UINT32, 7))
    assert "'general.name' stands twice" in refusal(sound.write(path))


def test_a_tensor_that_stands_twice(sound: GGUFFile, path: Path) -> None:
    sound.tensors[1].name = sound.tensors[0].name
    assert "stands twice" in refusal(sound.write(path))


@pytest.mark.parametrize("kind", [13, 99, 2**32 - 1])
def test_unknown_value_types(sound: GGUFFile, path: Path, kind: int) -> None:
    scalar, array = sound.copy(), sound.copy()
    scalar.entries[0] = Entry(b"general.architecture", kind, 1)
    array.entries[0] = Entry(b"general.architecture", ARRAY, [1], kind)
    assert f"unknown value type {kind}" in refusal(scalar.write(path))
    assert f"unknown type {kind}" in refusal(array.write(path))


def test_an_array_of_arrays(sound: GGUFFile, path: Path) -> None:
    sound.set("nested", ARRAY, [], ARRAY)
    assert "unknown type 9" in refusal(sound.write(path))


@pytest.mark.parametrize("where", ["key", "value", "tensor"])
def test_text_that_is_not_utf8(sound: GGUFFile, path: Path, where: str) -> None:
    if where == "key":
        sound.entries[0].key = b"\xff"
    elif where == "value":
        sound["general.name"].value = b"\xc3"
    else:
        sound.tensors[0].name = b"\xff"
    assert "not valid UTF-8" in refusal(sound.write(path))


@pytest.mark.parametrize(("kind", "value"), [(UINT32, 0), (UINT32, 24), (INT32, -32), (STRING, b"32"), (7, True), (6, 32.0)])
def test_alignment_that_is_none(sound: GGUFFile, path: Path, kind: int, value: object) -> None:
    sound.set("general.alignment", kind, value)
    assert "general.alignment" in refusal(sound.write(path))


def test_tensor_off_its_alignment(sound: GGUFFile, path: Path) -> None:
    sound.tensors[3].offset += 1
    assert "not aligned to 32" in refusal(sound.write(path))


@pytest.mark.parametrize("number", [4, 5, 9, 15, 31, 36, 43, 1000, 2**32 - 1])
def test_unknown_tensor_types(sound: GGUFFile, path: Path, number: int) -> None:
    sound.tensors[2].type_number = number
    assert f"unknown type {number}" in refusal(sound.write(path))


@pytest.mark.parametrize("shape", [[], [2, 2, 2, 2, 2], [0], [64, 0], [2**63, 2], [2**40, 2**40], [2**64 - 1]])
def test_impossible_shapes(sound: GGUFFile, path: Path, shape: list[int]) -> None:
    sound.tensors[2].shape = shape
    assert re.search("dimensions|impossible shape", refusal(sound.write(path)))


def test_rows_that_are_no_whole_blocks(sound: GGUFFile, path: Path) -> None:
    tensor = sound.tensor("output_norm.weight")
    tensor.shape, tensor.type_number = [48], 8
    assert "rows of 48 are no multiple of Q8_0's 32" in refusal(sound.write(path))


def test_a_tensor_name_that_is_too_long(sound: GGUFFile, path: Path) -> None:
    sound.tensors.append(Tensor(b"x" * 64, [1], 0, 0))
    assert "does not fit" in refusal(sound.write(path))


def test_tensor_types_are_those_of_the_ggml_in_use() -> None:
    base = ctypes.CDLL(str(next((Path(llama_cpp.__file__).parent / "lib").glob("*ggml-base*"))))
    base.ggml_type_size.restype = ctypes.c_size_t
    base.ggml_blck_size.restype = ctypes.c_int64
    base.ggml_type_name.restype = ctypes.c_char_p
    # Only ever quantities of an evaluation, never in a file.
    intermediate = {"q8_1", "q8_K"}
    of_ggml = {}
    for number in range(llama_cpp.GGML_TYPE_COUNT):
        name = base.ggml_type_name(number).decode()
        if base.ggml_blck_size(number) and name not in intermediate:
            of_ggml[number] = (name.upper(), base.ggml_blck_size(number), base.ggml_type_size(number))
    assert of_ggml == TENSOR_TYPES
