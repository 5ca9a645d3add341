"""The scripts of version 0.1 as they were, run on the same Redis: what an older caller or worker does to a record."""

from typing import Any

import redis

from dispatcher.steps import Step
from tests.support.golden_files import GOLDEN

_FOLDER = GOLDEN / "lua-0.1"

#: What 0.1 wrote before each script: the values that it knew.
_KNOWN = """\
local function set_of(text)
  local set = {}
  for word in string.gmatch(text, '%S+') do set[word] = true end
  return set
end
local KNOWN = {
  status = set_of('QUEUED STARTING RUNNING SUCCEEDED FAILED CANCELLED'),
  intent = set_of('finished cancelled failed next_attempt'),
  reason = set_of('exit_code'), spec_bytes = 262144,
}
"""


def run_old(client: "redis.Redis", step: Step[Any]) -> Any:
    """Carry out a step with the script of 0.1, which passes over arguments that it does not know. Returns its reply."""
    text = _KNOWN + (_FOLDER / "prelude.lua").read_text() + (_FOLDER / f"{step.script}.lua").read_text()
    return client.eval(text, len(step.keys), *step.keys, *step.args)
