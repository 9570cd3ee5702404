from ..again import again
from ..events import test_repeats as _same

globals().update(again(_same))
