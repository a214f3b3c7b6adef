"""How parts of entry points are compiled: only as far as their callers need them.

Numba makes machine code of every function and improves each of them again within all those that
call it. Python calls the entry points alone, so that only these need it: their parts are handed
on as they are, and improved once, where they are built in.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from numba.core import codegen, compiler

_CODEGEN: Any = codegen  # untyped in Numba
_COMPILER: Any = compiler
_FUNCTIONS: Any = importlib.import_module("numba._dynfunc")
_NOTHING = ctypes.cast(ctypes.pythonapi.PyErr_Occurred, ctypes.c_void_p).value
"""A function without arguments that returns null, which Python makes a ``SystemError`` of."""


class _PartLibrary(_CODEGEN.JITCodeLibrary):  # type: ignore[misc]
    """Code that is linked into that of others and never run from here."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True


class _InlinedLibrary(_PartLibrary):
    """Code that is nowhere but in its callers, and improved there."""

    def _optimize_functions(self, ll_module: Any) -> None:
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        """Leaves that to the callers."""


class PartCompiler(_COMPILER.Compiler):  # type: ignore[misc]
    """Numba's compiler for functions that Python does not call."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        target = self.state.targetctx
        kind: Any = _InlinedLibrary if self.state.flags.forceinline else _PartLibrary
        self.state.library = kind(target.codegen(), "part")
        self.state.library.enable_object_caching()
        target.get_executable = _refused


def _refused(library: Any, fndesc: Any, env: Any) -> Any:
    """Returns what stands for a part in Python: called from there, it gives nothing, an error."""
    name = fndesc.qualname.rpartition(".")[2]
    return _FUNCTIONS.make_function(
        fndesc.lookup_module(), name, "part of compiled code", _NOTHING, env, (library,)
    )
