from .. import test_usage as _same
from .facade import again

globals().update(again(_same))
