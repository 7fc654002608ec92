-- wrk: posts the bodies of the files that are named after --, in turn, and prints one line of JSON at the end.
-- Arguments: a header, a header, …, "--bodies", a file, a file, …; a header is "Name: value".

local requests = {}
local next_request = 0

function init(args)
  local headers, bodies, in_bodies = {}, {}, false
  for _, argument in ipairs(args) do
    if argument == "--bodies" then
      in_bodies = true
    elseif in_bodies then
      bodies[#bodies + 1] = argument
    else
      local name, value = argument:match("^([^:]+): (.*)$")
      headers[name] = value
    end
  end
  for _, path in ipairs(bodies) do
    local file = assert(io.open(path, "rb"))
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read("*a"))
    file:close()
  end
end

function request()
  next_request = next_request % #requests + 1
  return requests[next_request]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format(
    '\n{"duration_us": %d, "requests": %d, "p50_us": %d, "p99_us": %d, "mean_us": %d, "socket_errors": %d, "status_errors": %d, "timeouts": %d}\n',
    summary.duration, summary.requests, latency:percentile(50), latency:percentile(99), latency.mean,
    errors.connect + errors.read + errors.write, errors.status, errors.timeout))
end
