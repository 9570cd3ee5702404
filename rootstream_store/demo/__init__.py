"""A broadcast evening on real servers: `rootstream-store demo`. The script is fixed by a seed, so its sums
are known."""

from rootstream_store.demo.cast import Played
from rootstream_store.demo.checks import Check, check_evening
from rootstream_store.demo.evening import Evening
from rootstream_store.demo.script import Broadcast, write_script

__all__ = ["Broadcast", "Check", "Evening", "Played", "check_evening", "write_script"]
