from ..events import test_append as _same
from .facade import again

globals().update(again(_same))
