from .. import test_cached as _same
from ..again import again

globals().update(again(_same))
