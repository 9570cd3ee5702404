from .. import test_store as _same
from ..again import again

globals().update(again(_same))
# Its loop stays with the parent: see test_async_store.
del globals()["test_a_forked_child_may_not_use_its_parents_store"]
