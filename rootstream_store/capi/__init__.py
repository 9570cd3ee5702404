"""The Python half of librootstream_store.so: what C programs call, in the interpreter that the library
starts.

Python programs need nothing of it. `python -m rootstream_store.capi` tells where the library and its header
are.
"""

from __future__ import annotations

__all__: list[str] = []
