from .. import test_usage as _same
from ..again import again

globals().update(again(_same))
