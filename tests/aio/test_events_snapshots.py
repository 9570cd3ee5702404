from ..events import test_snapshots as _same
from .facade import again

globals().update(again(_same))
