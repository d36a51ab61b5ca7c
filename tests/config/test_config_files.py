from __future__ import annotations

from pathlib import Path

import pytest

from archroute_edge.config import MAX_BYTES, load_config, parse_config
from archroute_edge.errors import ConfigError

ROUTES = """routing_preferences:
  - name: math
    description: arithmetic and algebra
"""


class TestFiles:
    def test_missing(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
            load_config(tmp_path / "nowhere.yaml")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="folder"):
            load_config(tmp_path)

    def test_a_path_that_no_file_can_have(self) -> None:
        with pytest.raises(ConfigError, match="cannot be read"):
            load_config("a\0b")

    def test_not_utf8(self, tmp_path: Path) -> None:
        path = tmp_path / "latin1.yaml"
        path.write_bytes("version: 1\nname: caf\u00e9\n".encode("latin-1"))
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value) == f"{path}:2: not UTF-8 text; save the file as UTF-8"

    def test_byte_order_mark_and_windows_line_ends(self, tmp_path: Path) -> None:
        path = tmp_path / "windows.yaml"
        path.write_bytes(b"\xef\xbb\xbf" + ROUTES.replace("\n", "\r\n").encode())
        config = load_config(path)
        assert config.table.names == ("math",)
        assert config.route_lines == {"math": 2}

    def test_too_large(self, tmp_path: Path) -> None:
        path = tmp_path / "large.yaml"
        path.write_bytes(b"#" * (MAX_BYTES + 1))
        with pytest.raises(ConfigError, match="larger than"):
            load_config(path)
        with pytest.raises(ConfigError, match="larger than"):
            parse_config(path.read_text())

    def test_an_empty_json_file(self, tmp_path: Path) -> None:
        path = tmp_path / "empty.json"
        path.write_text("")
        with pytest.raises(ConfigError, match="empty"):
            load_config(path)


class TestHostileFiles:
    def test_anchors_that_multiply_are_refused_before_they_are_expanded(self) -> None:
        lines = ["tracing:", "  a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
        lines += [f"  a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 9)]
        with pytest.raises(ConfigError, match="anchors") as caught:
            parse_config("\n".join(lines) + "\n" + ROUTES)
        assert caught.value.line == 6

    def test_many_merges_are_refused(self) -> None:
        big = "{" + ", ".join(f"k{index}: 1" for index in range(1000)) + "}"
        text = f"tracing:\n  a: &a {big}\n  b:\n" + "    - {<<: *a}\n" * 100 + ROUTES
        with pytest.raises(ConfigError, match="anchors"):
            parse_config(text)

    @pytest.mark.parametrize("text", ["[" * 5000, "a: " + "[" * 100 + "]" * 100, '{"a":' * 5000, "- " * 200 + "x"])
    def test_deep_nesting_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match="nested deeper"):
            parse_config(text)

    def test_deep_json_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="nested deeper"):
            parse_config('{"a": ' + "[" * 200_000 + "]" * 200_000 + "}")

    def test_too_many_routes(self) -> None:
        text = "version: 1\nrouting_preferences:\n" + "".join(f"  - name: r{index}\n" for index in range(257))
        with pytest.raises(ConfigError, match="257 routes") as caught:
            parse_config(text)
        assert caught.value.line == 2

    def test_a_huge_name_does_not_fill_the_message(self) -> None:
        with pytest.raises(ConfigError) as caught:
            parse_config(ROUTES + "  - name: math2\n    " + "x" * 500 + ": 1\n")
        assert len(str(caught.value)) < 300
