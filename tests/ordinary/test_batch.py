from .. import test_batch as _same
from ..again import again

globals().update(again(_same))
