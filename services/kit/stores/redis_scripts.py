"""Many small values into Redis with one answer: what a pipeline of commands costs in Python is the commands.

Scripts of a few hundred keys each, so that Redis is never busy with one for long.
"""

from collections.abc import Sequence
from typing import Final

from redis.asyncio import Redis

KEYS_AT_ONCE: Final = 256

# ARGV: seconds to live, number of fields, their names, then the fields' values for each key. An
# empty value is none: such a field is taken out, and a key without any.
_HASHES: Final = """
local ttl, width = tonumber(ARGV[1]), tonumber(ARGV[2])
for i = 1, #KEYS do
  local base, put, out = 2 + width * i, {}, {}
  for j = 1, width do
    local value = ARGV[base + j]
    if value == '' then
      out[#out + 1] = ARGV[2 + j]
    else
      put[#put + 1] = ARGV[2 + j]
      put[#put + 1] = value
    end
  end
  if #out > 0 then redis.call('HDEL', KEYS[i], unpack(out)) end
  if #put > 0 then
    redis.call('HSET', KEYS[i], unpack(put))
    redis.call('EXPIRE', KEYS[i], ttl)
  end
end
return #KEYS
"""
# ARGV: seconds to live, then a value for each key.
_STRINGS: Final = """
for i = 1, #KEYS do redis.call('SET', KEYS[i], ARGV[i + 1], 'EX', ARGV[1]) end
return #KEYS
"""

Value = str | bytes


class BulkWriter:
    """Writes hashes and strings that live for a while. Its methods raise RedisError, OSError."""

    def __init__(self, redis: Redis) -> None:
        self._hashes = redis.register_script(_HASHES)
        self._strings = redis.register_script(_STRINGS)

    async def hashes(
        self, keys: Sequence[str], fields: Sequence[str], values: Sequence[Sequence[Value]], ttl_seconds: int
    ) -> None:
        """Sets `fields` of each key to its `values`; an empty value takes the field out."""
        head: list[Value | int] = [ttl_seconds, len(fields), *fields]
        for at in range(0, len(keys), KEYS_AT_ONCE):
            part = slice(at, at + KEYS_AT_ONCE)
            await self._hashes(keys[part], [*head, *(value for row in values[part] for value in row)])

    async def strings(self, keys: Sequence[str], values: Sequence[Value], ttl_seconds: int) -> None:
        for at in range(0, len(keys), KEYS_AT_ONCE):
            part = slice(at, at + KEYS_AT_ONCE)
            await self._strings(keys[part], [ttl_seconds, *values[part]])
