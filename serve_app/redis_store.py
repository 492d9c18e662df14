"""The store of photos on a Redis server, for ingress nodes that share no Ray cluster, and photos that outlive one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from serve_app.errors import StageUnavailable
from serve_app.keeping import NOBODY, Bounds
from serve_app.quotas import Quota, Standing

PREFIX = "shoplens:"

_ADD = """
local token, sizes, ages = KEYS[1], KEYS[2], KEYS[3]
local owner, name, expiry_ms, most, opens = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local held = redis.call('HGET', token, 'owner')
if opens == (held ~= false) or (held and held ~= owner) then return 0 end
if opens then
  redis.call('HSET', token, 'owner', owner)
  redis.call('PEXPIRE', token, expiry_ms)
end
for i = 6, #ARGV, 2 do
  if redis.call('HSETNX', token, 'part:' .. ARGV[i], ARGV[i + 1]) == 1 then
    redis.call('HINCRBY', token, 'bytes', #ARGV[i + 1])
  end
end
if most < 0 then return 1 end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', ages, '-inf', now_ms)) do
  redis.call('ZREM', ages, old)
  redis.call('HDEL', sizes, old)
end
if opens then redis.call('ZADD', ages, now_ms + expiry_ms, name) end
redis.call('HSET', sizes, name, redis.call('HGET', token, 'bytes'))
redis.call('PEXPIRE', ages, expiry_ms)
redis.call('PEXPIRE', sizes, expiry_ms)
local total = 0
for _, size in ipairs(redis.call('HVALS', sizes)) do total = total + size end
local others = redis.call('ZRANGE', ages, 0, -1)
table.insert(others, name)
for i, old in ipairs(others) do
  if total <= most then break end
  if old ~= name or i == #others then
    total = total - (redis.call('HGET', sizes, old) or 0)
    redis.call('DEL', string.sub(token, 1, -1 - #name) .. old)
    redis.call('ZREM', ages, old)
    redis.call('HDEL', sizes, old)
  end
end
return redis.call('EXISTS', token)
"""

_TAKE = """
local most, per_s, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now_s = time[1] + time[2] / 1e6
local before = redis.call('HMGET', KEYS[1], 'left', 'at_s')
local left = most
if before[1] then left = math.min(most, before[1] + math.max(0, now_s - before[2]) * per_s) end
local taken = left >= math.min(cost, most)
if taken then left = left - cost end
redis.call('HSET', KEYS[1], 'left', string.format('%.6f', left), 'at_s', string.format('%.6f', now_s))
redis.call('PEXPIRE', KEYS[1], math.ceil((most - left) / per_s * 1000) + 1000)
return {taken and 1 or 0, string.format('%.6f', left)}
"""


class RedisStore:
    """Keep tokens as hashes that Redis lets expire; how much it keeps in all is its own `maxmemory`.

    Use it in one event loop.
    """

    def __init__(self, url: str, password: str, bounds: Bounds, timeout_s: float) -> None:
        self._redis = Redis.from_url(
            url,
            password=password or None,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            # Once more at once, for a connection that the server closed; by default it would wait for seconds.
            retry=Retry(NoBackoff(), 1),
        )
        self._bounds = bounds
        self._add: Any = self._redis.register_script(_ADD)
        self._take: Any = self._redis.register_script(_TAKE)

    async def open(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        return await self._put(owner, token, parts, opens=True)

    async def add(self, owner: str, token: str, parts: Mapping[str, bytes]) -> bool:
        return await self._put(owner, token, parts, opens=False)

    async def read(self, owner: str, token: str, name: str) -> bytes | None:
        try:
            reading: Any = self._redis.hmget(_token(token), ["owner", f"part:{name}"])
            held, data = await reading
        except RedisError as error:
            raise _away(error) from error
        found: bytes | None = data
        return found if held == owner.encode() else None

    async def signing_key(self, proposed: bytes) -> bytes:
        try:
            await self._redis.set(f"{PREFIX}signing_key", proposed, nx=True)
            key: Any = await self._redis.get(f"{PREFIX}signing_key")
        except RedisError as error:
            raise _away(error) from error
        return bytes(key or proposed)

    async def take(self, name: str, quota: Quota, cost: int) -> Standing:
        try:
            arguments = [quota.requests, quota.per_s, cost]
            taken, left = await self._take(keys=[f"{PREFIX}bucket:{name}"], args=arguments)
        except RedisError as error:
            raise _away(error) from error
        return Standing(quota, bool(taken), float(left))

    async def close(self) -> None:
        await self._redis.aclose()

    async def _put(self, owner: str, token: str, parts: Mapping[str, bytes], *, opens: bool) -> bool:
        most = -1 if owner == NOBODY else self._bounds.max_bytes_per_key
        given = [value for part in parts.items() for value in part]
        keys = [_token(token), f"{PREFIX}sizes:{owner}", f"{PREFIX}ages:{owner}"]
        arguments = [owner, token, round(self._bounds.expiry_s * 1000), most, int(opens), *given]
        try:
            return bool(await self._add(keys=keys, args=arguments))
        except RedisError as error:
            raise _away(error) from error


def _token(token: str) -> str:
    return f"{PREFIX}token:{token}"


def _away(error: RedisError) -> StageUnavailable:
    return StageUnavailable(f"the store of photos can't be reached: {error}")
