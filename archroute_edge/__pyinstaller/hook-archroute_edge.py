"""Files that PyInstaller does not find by following imports: llama.cpp's libraries, data, bundled models, workers."""

from PyInstaller import isolated
from PyInstaller.utils.hooks import collect_data_files, collect_dynamic_libs, logger


@isolated.decorate  # type: ignore[untyped-decorator]
def _bundled_files() -> list[tuple[str, str]]:
    from archroute_edge.models import read_catalogue
    from archroute_edge.system import bundled_folder

    folder = bundled_folder()
    # In a clone the folder may hold models of any size and licence; these are the ones that come with the package.
    models = [entry.file for entry in read_catalogue(folder / "catalogue.yaml").values() if entry.file is not None]
    names = ("catalogue.yaml", "README.md", "quality.safetensors", *models)
    return [(str(folder / name), "archroute_edge/bundled") for name in names]


@isolated.decorate  # type: ignore[untyped-decorator]
def _cpu_warning() -> str | None:
    from archroute_edge.__pyinstaller.native_build import bundling_warning
    from archroute_edge.engine import features_of_build, required_features

    features = features_of_build()
    if features is None:
        # The libraries of macOS and Windows have to be asked.
        import llama_cpp

        features = required_features(llama_cpp.llama_print_system_info().decode())
    return bundling_warning(features)


datas = [
    *collect_data_files("archroute_edge", subdir="data"),
    *_bundled_files(),
    # Where a build of llama.cpp for Metal has its kernels in a file.
    *collect_data_files("llama_cpp", includes=["**/*.metal", "**/*.metallib"]),
]
binaries = collect_dynamic_libs("llama_cpp")
# Started by name, in processes of their own.
hiddenimports = [
    "archroute_edge.bench._measuring_worker",
    "archroute_edge.engine._kernel_trial_worker",
    "archroute_edge.quantize._worker",
]

# A bundle computes with llama.cpp alone: the second engine would double its size.
excludedimports = ["ik_llama_cpp"]

if _text := _cpu_warning():
    logger.warning(_text)
