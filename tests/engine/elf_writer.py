"""A shared library with no more in it than its compiler's name and the code of its functions."""

from __future__ import annotations

import struct

TEXT_ADDRESS = 0x4000
_DEFINED_IN_TEXT = 1


def elf(functions: dict[str, bytes], comments: tuple[str, ...] = (), machine: int = 62) -> bytes:
    """An ELF file of 64 bits that exports these functions; ``printf`` of another library is among its symbols."""
    text, names, symbols = b"", b"\0printf\0", struct.pack("<IBBHQQ", 1, 0x12, 0, 0, 0, 0)
    for name, code in functions.items():
        symbols += struct.pack("<IBBHQQ", len(names), 0x12, 0, _DEFINED_IN_TEXT, TEXT_ADDRESS + len(text), len(code))
        text += code
        names += name.encode() + b"\0"
    sections = {
        ".text": text,
        ".dynstr": names,
        ".dynsym": symbols,
        ".comment": b"".join(comment.encode() + b"\0" for comment in comments),
    }
    titles = b"\0" + b"\0".join(title.encode() for title in [*sections, ".shstrtab"]) + b"\0"
    sections[".shstrtab"] = titles
    body, table = b"", struct.pack("<IIQQQQIIQQ", *[0] * 10)
    for title, content in sections.items():
        address = TEXT_ADDRESS if title == ".text" else 0
        table += struct.pack(
            "<IIQQQQIIQQ", titles.index(title.encode() + b"\0"), 1, 0, address, 64 + len(body), len(content), 0, 0, 1, 0
        )
        body += content
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    count = len(sections) + 1
    header = ident + struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 0, 64 + len(body), 0, 64, 0, 0, 64, count, count - 1)
    return header + body + table
