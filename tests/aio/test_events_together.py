from ..events import test_together as _same
from .facade import again

globals().update(again(_same))
