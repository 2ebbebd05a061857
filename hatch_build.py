"""Build hook: compiles the JPEG loader into the package where that is possible.

Without a C compiler or libjpeg-turbo's headers the package installs all the same, and loads images
by way of Pillow; `resnext doctor` says which. RESNEXT_NATIVE=0 leaves the library out on purpose,
RESNEXT_NATIVE=1 makes a failure to compile an error.
"""

import atexit
import importlib.util
import os
import shutil
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER = "resnext/data/native"


class NativeBuildHook(BuildHookInterface):
    """Puts the library into the wheel; for an editable install beside its source."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files of a wheel."""
        wanted = os.environ.get("RESNEXT_NATIVE", "")
        if wanted == "0":
            self.app.display_info("RESNEXT_NATIVE=0: installing without the native JPEG loader")
            return
        build = _build_module(Path(self.root, "src", _FOLDER, "build.py"))
        editable = version == "editable"
        target = build.LIBRARY if editable else self._folder() / build.LIBRARY.name
        try:
            build.build(target)
        except (build.BuildError, OSError) as error:
            if wanted == "1":
                raise
            self.app.display_warning(f"installing without the native JPEG loader: {error}")
            return
        self.app.display_info("built the native JPEG loader")
        if not editable:
            build_data["force_include"][str(target)] = f"{_FOLDER}/{target.name}"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"

    def _folder(self) -> Path:
        """Outside the source tree, so that no other build picks up what this one made."""
        folder = tempfile.mkdtemp(prefix="resnext-native-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)


def _build_module(path: Path) -> ModuleType:
    """Loaded by its path: the package itself cannot be imported where it is being built."""
    spec = importlib.util.spec_from_file_location("resnext_native_build", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
