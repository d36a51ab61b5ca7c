"""``archroute models``: what it prints where, its exit codes, and what it deletes."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from archroute_edge.cli import main
from archroute_edge.models import find_model, pull_checkpoint, pull_model
from archroute_edge.models._find import user_folder
from archroute_edge.models._hub_cache import remove_from_cache
from archroute_edge.system import bundled_folder
from tests.models.hub_server import COMMIT, Hub


def models(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(main, ["models", *arguments], input=stdin)


@pytest.fixture
def own(hub: Hub, random_model: Path) -> Path:
    """A model in the user's folder."""
    path = user_folder() / "mine.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(random_model.read_bytes())
    return path


class TestList:
    def test_what_there_is_and_what_is_here(self, own: Path) -> None:
        """One look shows names to type, sizes to expect, licences, and what needs no download."""
        pulled = pull_model("small:F16")
        rows = {row["name"]: row for row in json.loads(models("list", "--json").stdout)}
        assert {"tiny", "arch-router:Q4_K_M", "arch-router:checkpoint", "plano-orchestrator:checkpoint", "mine"} < set(rows)
        assert rows["small:F16"]["path"] == str(pulled.path)
        assert rows["small:F16"]["bytes"] == pulled.n_bytes
        assert rows["small:Q4_0"]["path"] is None
        assert rows["mine"]["path"] == str(own)
        assert rows["arch-router:Q4_K_M"]["approximate_size"] == "986 MB"
        assert rows["arch-router:Q4_K_M"]["licence"] == "katanemo-research"
        table = models("list")
        assert table.exit_code == 0
        line = next(line for line in table.stdout.splitlines() if line.startswith("small:F16"))
        assert line.split()[-1] == str(pulled.path)
        usual = next(line for line in table.stdout.splitlines() if line.startswith("arch-router:Q4_K_M (usual) "))
        assert usual.split()[2:] == ["~986", "MB", "katanemo-research", "no"]

    def test_a_level_that_was_made_here(self, hub: Hub, random_model: Path) -> None:
        """Whoever quantized a level that nobody publishes calls it by name like any other."""
        path = user_folder() / "small-Q6_K.gguf"
        path.parent.mkdir(parents=True)
        path.write_bytes(random_model.read_bytes())
        rows = {row["name"]: row for row in json.loads(models("list", "--json").stdout)}
        assert rows["small:Q6_K"]["path"] == str(path)
        assert "small:Q5_K_M" not in rows
        assert find_model("small:q6_k").path == path


class TestPull:
    def test_the_path_alone_is_on_stdout(self, hub: Hub) -> None:
        """So that `$(archroute models pull small)` is a path."""
        done = models("pull", "small")
        assert done.exit_code == 0
        assert done.stdout == f"{find_model('small').path}\n"
        assert f"licence of the model: test-licence ({hub.url}/org/small.gguf)\nits full text: " in done.stderr
        assert "small:Q4_0: downloaded, checked" in done.stderr
        assert "was here already" in models("pull", "small").stderr

    def test_json(self, hub: Hub) -> None:
        report = json.loads(models("pull", "small", "--quant", "f16", "--json").stdout)
        assert report["name"] == "small:F16"
        assert report["revision"] == COMMIT
        assert report["path"] == str(find_model("small:F16").path)
        assert Path(report["licence"]["path"]).read_bytes() == b"Do as you like.\n"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("small:F16", "--quant", "Q4_0"), "small:F16 names a level already"),
            (("nothing",), "no model is called 'nothing'"),
            (("small", "--revision", "v9"), "has no such revision"),
        ],
    )
    def test_errors_are_one_line_and_exit_code_2(self, hub: Hub, arguments: tuple[str, ...], message: str) -> None:
        done = models("pull", *arguments)
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


class TestPath:
    def test_of_what_is_here(self, own: Path) -> None:
        assert models("path", "mine").stdout == f"{own}\n"

    def test_of_a_checkpoint(self, hub: Hub) -> None:
        pulled = pull_model("small:checkpoint")
        assert models("path", "small:checkpoint").stdout == f"{pulled.path}\n"

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("small", "nothing is downloaded unasked; get it with: archroute models pull small --quant Q4_0"),
            ("small:checkpoint", "get it with: archroute models pull small:checkpoint"),
            ("mine", "mine is not on this machine; put mine.gguf into "),
        ],
    )
    def test_of_what_is_not_here_is_the_command_that_gets_it(self, hub: Hub, name: str, message: str) -> None:
        done = models("path", name)
        assert (done.exit_code, done.stdout) == (2, "")
        assert message in done.stderr
        assert hub.asked == []


class TestVerify:
    def test_sound(self, own: Path) -> None:
        """What was checked is said: where no hash is known, nothing proves that the weights are the right ones."""
        pull_model("small")
        pull_model("small:checkpoint")
        done = models("verify", "small")
        assert (done.exit_code, done.stdout) == (
            0,
            "small:Q4_0: sound (hash and structure)\nsmall:checkpoint: sound (hash and structure)\n",
        )
        assert models("verify", "mine").stdout == "mine: sound (structure only, no hash of it is known)\n"

    def test_a_changed_byte(self, hub: Hub) -> None:
        path = pull_model("small").path.resolve()
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        done = models("verify", "small:Q4_0", "--json")
        assert done.exit_code == 2
        (report,) = json.loads(done.stdout)
        assert "is damaged or was changed" in report["problem"]

    def test_a_truncated_file_without_a_known_hash(self, own: Path) -> None:
        own.write_bytes(own.read_bytes()[:-100])
        done = models("verify", "mine")
        assert done.exit_code == 2
        assert done.stdout.startswith(f"mine: {own}: ")

    def test_a_file_by_its_path(self, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The catalogue knows nothing of it."""
        monkeypatch.chdir(own.parent)
        path = own.rename(own.with_name("other.gguf"))
        for name in ("other.gguf", str(path)):
            assert models("verify", name).stdout == "other.gguf: sound (structure only, no hash of it is known)\n"
        path.write_bytes(path.read_bytes()[:-100])
        done = models("verify", "other.gguf")
        assert done.exit_code == 2 and "truncated" in done.stdout
        assert done.stdout.count("other.gguf") == 1
        assert "nothing.gguf: no such model file" in models("verify", "nothing.gguf").stderr
        for command in ("remove", "pull"):
            assert "other.gguf is a file, and this needs a name of the catalogue: mini," in models(command, "other.gguf").stderr

    def test_files_in_folders_of_a_checkpoint(self, hub: Hub) -> None:
        """They are hashed and counted like the others."""
        folder = pull_model("small:checkpoint").path
        own = folder / "1_Pooling" / "config.json"
        own.parent.mkdir()
        own.symlink_to((folder / "config.json").resolve())
        assert models("verify", "small:checkpoint").exit_code == 0
        weights = next(path for path in folder.iterdir() if path.suffix == ".safetensors")
        blob = weights.resolve().with_name("0a" * 32)
        blob.write_bytes(b"{}")
        own.unlink()
        own.symlink_to(blob)
        done = models("verify", "small:checkpoint")
        assert done.exit_code == 2 and f"{own}: is damaged or was changed" in done.stdout

    def test_a_hash_of_ones_own_catalogue(self, own: Path, tmp_path: Path) -> None:
        """Whoever hands a model on can hand its hash on."""
        catalogue = tmp_path / "catalogue.yaml"
        catalogue.write_text(catalogue.read_text() + f"    sha256: {'0a' * 32}\n")
        assert "is damaged or was changed" in models("verify", "mine").stdout


class TestRemove:
    def test_one_level_of_two(self, hub: Hub, cache: Path) -> None:
        """Link and data go, and nothing else does."""
        gone, kept = pull_model("small:F16"), pull_model("small:Q4_0")
        blob = gone.path.resolve()
        done = models("remove", "small:F16", "--yes")
        assert done.exit_code == 0
        assert set(done.stdout.split()) == {str(gone.path), str(blob)}
        assert not gone.path.is_symlink()
        assert not blob.exists()
        assert find_model("small").path == kept.path
        assert kept.licence.path is not None
        assert kept.licence.path.exists()

    def test_data_that_two_names_share(self, hub: Hub) -> None:
        """The other name must not be left without its data."""
        files = hub.repos["org/small.gguf"]
        files["small.gguf"] = files["small-Q4_0.gguf"]
        kept, gone = pull_model("small:Q4_0"), pull_model("small:F16")
        assert models("remove", "small:F16", "--yes").stdout == f"{gone.path}\n"
        assert kept.path.read_bytes() == files["small.gguf"]

    def test_a_bare_name_removes_everything_of_it(self, hub: Hub, cache: Path) -> None:
        for name in ("small:F16", "small:Q4_0", "small:checkpoint"):
            pull_model(name)
        assert models("remove", "small", "--yes", "--json").exit_code == 0
        assert [path for path in cache.rglob("*") if path.name.startswith(("small.", "small-", "model."))] == []
        assert list(cache.glob("*/blobs/*")) != []  # the licence of the GGUFs
        assert not (cache / "models--org--small").exists()

    def test_another_repository_with_the_same_commits_stays(self, hub: Hub) -> None:
        """A copy of a repository has its history, and so its commits."""
        for number in range(8):
            hub.repos[f"org/copy-{number}"] = hub.repos["org/small"]
        copies = [pull_checkpoint(f"org/copy-{number}").path for number in range(8)]
        pull_model("small:checkpoint")
        assert models("remove", "small:checkpoint", "--yes").exit_code == 0
        assert all((path / "model.safetensors").is_file() for path in copies)

    def test_the_users_own_file(self, own: Path) -> None:
        assert models("remove", "mine", "--yes").stdout == f"{own}\n"
        assert not own.exists()

    @pytest.mark.parametrize("folder", [None, "models", "docs/../models"])
    def test_the_bundled_model_stays(self, hub: Hub, folder: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where its folder is named as the user's own: nothing brings it back but a new installation."""
        monkeypatch.chdir(bundled_folder().parent)
        if folder is not None:
            monkeypatch.setenv("ARCHROUTE_MODELS_DIR", folder)
        deleted: list[Path] = []
        monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: deleted.append(self))
        done = models("remove", "tiny", "--yes")
        assert done.exit_code == 2
        assert "lies beside the bundled model" in done.stderr
        assert deleted == []

    @pytest.mark.parametrize("name", ["small.gguf", "levels/small.gguf"])
    def test_a_level_that_stays_is_found_out_before_another_goes(
        self, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """Everything in the models/ of a clone stays, also in a folder of it."""
        catalogue = tmp_path / "catalogue.yaml"
        catalogue.write_text(catalogue.read_text().replace("small.gguf, size", f"{name}, size"))
        clone = tmp_path / "clone"
        (clone / name).parent.mkdir(parents=True)
        (clone / name).write_bytes(b"made here")
        pulled = pull_model("small:Q4_0")
        monkeypatch.setattr("archroute_edge.models._find.bundled_folder", lambda: clone)
        done = models("remove", "small", "--yes")
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"nothing was deleted: {clone / name} lies beside" in done.stderr
        assert pulled.path.exists()

    def test_what_went_before_an_error_is_named(self, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        """Would break if nobody could tell which files are gone."""
        gone, _ = pull_model("small:Q4_0"), pull_model("small:F16")

        def deny(repo: str, names: set[str] | None) -> list[Path]:
            if names == {"small.gguf"}:
                raise PermissionError(errno.EACCES, "Permission denied", "small.gguf")
            return remove_from_cache(repo, names)

        monkeypatch.setattr("archroute_edge.models._find.remove_from_cache", deny)
        done = models("remove", "small", "--yes")
        assert done.exit_code == 2
        assert "small.gguf: cannot be deleted (Permission denied)" in done.stderr
        assert str(gone.path) in done.stdout.split()

    def test_nothing_goes_unasked(self, own: Path) -> None:
        """In a script, where nobody can answer, deleting has to be said on the command line."""
        done = models("remove", "mine")
        assert (done.exit_code, done.stdout) == (2, "")
        assert "add --yes" in done.stderr
        assert own.exists()

    @pytest.mark.parametrize(("answer", "goes"), [("y", True), ("n", False), ("", False)])
    def test_asking_on_a_terminal(self, own: Path, answer: str, goes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("archroute_edge.cli.models._can_answer", lambda: True)
        done = models("remove", "mine", stdin=f"{answer}\n")
        assert f"mine: {own} (" in done.stderr
        assert own.exists() is not goes
        assert done.exit_code == (0 if goes else 2)
        assert ("error: nothing was deleted" in done.stderr) is not goes

    def test_what_is_not_here(self, hub: Hub) -> None:
        assert models("remove", "small", "--yes").exit_code == 2
