from ..events import test_erasure as _same
from .facade import again

globals().update(again(_same))
