from ..events import test_repeats as _same
from .facade import again

globals().update(again(_same))
