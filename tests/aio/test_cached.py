from .. import test_cached as _same
from .facade import again

globals().update(again(_same))
