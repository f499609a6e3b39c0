"""Files of requests, of many origins: when requests came, how many tokens they had, what their prompts share."""

from scaleout.io.requests.forms import FORMS
from scaleout.io.requests.trace import Trace
from scaleout.io.requests.write import write_trace

__all__ = ["FORMS", "Trace", "write_trace"]
