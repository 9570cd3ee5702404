from .. import test_users as _same
from .facade import again

globals().update(again(_same))
