from .. import test_transactions as _same
from .facade import again

globals().update(again(_same))
