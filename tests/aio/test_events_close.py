from ..events import test_close as _same
from .facade import again

globals().update(again(_same))
