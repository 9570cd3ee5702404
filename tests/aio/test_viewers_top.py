from ..viewers import test_top as _same
from .facade import again

globals().update(again(_same))
