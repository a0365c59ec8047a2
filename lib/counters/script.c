/* One or two buckets, all or none. Redis's own clock, so that the clocks of its clients do not matter. */
#include "internal.h"

/*
 * ARGV: 1 to take a token (0: only settle), then for each key: interval, window, lend, spent, floor, all in microseconds but spent.
 * Returns: 1 when a token was taken from each, then for each key the microseconds until it is full.
 */
const char counters_script[] =
    "local t = redis.call('TIME')\n"
    "local now = t[1] * 1000000 + t[2]\n"
    "local take, full = ARGV[1] == '1', {}\n"
    "for i = 1, #KEYS do\n"
    "  local at = i * 5 - 3\n"
    "  local interval, window, lend = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])\n"
    "  local f = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now, now + tonumber(ARGV[at + 4]))\n"
    "  f = math.max(f + tonumber(ARGV[at + 3]) * interval, now)\n"
    "  full[i] = math.min(f, now + 2 * window + lend)\n"
    "  if full[i] + interval - now - window > lend then take = false end\n"
    "end\n"
    "local out = { take and 1 or 0 }\n"
    "for i = 1, #KEYS do\n"
    "  local f = full[i] + (take and tonumber(ARGV[i * 5 - 3]) or 0)\n"
    "  if f > now then redis.call('SET', KEYS[i], string.format('%.0f', f), 'PX', string.format('%.0f', math.ceil((f - now) / 1000)))\n"
    "  else redis.call('DEL', KEYS[i]) end\n"
    "  out[i + 1] = f - now\n"
    "end\n"
    "return out\n";
