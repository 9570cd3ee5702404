from ..again import again
from ..events import test_import as _same

globals().update(again(_same))
