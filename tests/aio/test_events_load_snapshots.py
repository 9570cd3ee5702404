from ..events import test_load_snapshots as _same
from .facade import again

globals().update(again(_same))
