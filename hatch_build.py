"""Puts the C library into the wheel, where it can be built.

A wheel with it fits one Python and one platform; one without fits all. ROOTSTREAM_STORE_CAPI says which:
"auto" (not set) builds the library where a C compiler and a shared libpython are, and leaves it out where
not; "1" fails instead of leaving it out; "0" leaves it out. An editable installation never holds it: there
the library is built by `make capi`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CapiBuildHook(BuildHookInterface[Any]):
    """Found by hatchling through pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Builds the library and has it put into the wheel."""
        wanted = os.environ.get("ROOTSTREAM_STORE_CAPI", "auto")
        if version == "editable" or wanted == "0":
            return
        build_capi = self._load()
        self._directory = tempfile.mkdtemp(prefix="rootstream-store-capi-")
        try:
            build_capi.build(Path(self._directory), debug=False, links=False)
        except build_capi.BuildError as error:
            if wanted == "1":
                raise
            self.app.display_warning(f"the wheel is made without the C library: {error}")
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for part in ("lib", "include"):
            build_data["force_include"][f"{self._directory}/{part}"] = f"rootstream_store/capi/native/{part}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Deletes what was built."""
        directory = getattr(self, "_directory", None)
        if directory is not None:
            shutil.rmtree(directory)

    def _load(self) -> ModuleType:
        spec = importlib.util.spec_from_file_location("build_capi", Path(self.root) / "build_capi.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
