from .. import test_transactions as _same
from ..again import again

globals().update(again(_same))
