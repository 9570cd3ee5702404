from ..events import test_import as _same
from .facade import again

globals().update(again(_same))
