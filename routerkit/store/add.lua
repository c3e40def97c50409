-- Adds, once, what a process admitted alone while it could not ask. With nothing to add it tells whether Redis can be written to.
-- KEYS: the batch's marker; then for each item its limit.
-- ARGS: for each item kind, cap, period, the number of the period, units (of a day they may be fewer than none).
-- Reply: 1, or 0 where it was done before; microseconds of the present; unreadable keys that were replaced.

if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', '172800') then
  return told({0, now, 0})
end
for i = 1, #KEYS - 1 do
  local key, a = KEYS[i + 1], 5 * i - 4
  local kind, cap, period = ARGS[a], tonumber(ARGS[a + 1]), ARGS[a + 2]
  local number, units = tonumber(ARGS[a + 3]), tonumber(ARGS[a + 4])
  if kind == 'rate' then
    save_level(key, math.min(leaked(key, cap) + units * MINUTE, cap * MINUTE))
  elseif number <= period_number(kind, period) + 1 then
    local count = load_count(key)
    if not count or count.p < number then
      count = born(number)
    end
    if count.p == number then
      count.n = math.max(0, count.n + units)
      save_count(key, count, keeps(kind, period))
    end
  end
end
return told({1, now, replaced})
