from ..events import test_read as _same
from .facade import again

globals().update(again(_same))
