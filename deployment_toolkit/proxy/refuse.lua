-- HAProxy: refuses a request whose body is still on its way. Such a client reads its answer only when it has sent
-- everything, so the body is taken first, up to a limit, and thrown away. The variables of the transaction are set in
-- haproxy.cfg: status, message and, for gRPC, grpc_status.

local MOST_BYTES = 512 * 1024 * 1024
local PART_BYTES = 64 * 1024

local function refuse(applet)
    local taken = 0
    while taken < MOST_BYTES do
        local part = applet:receive(PART_BYTES)
        if part == nil or #part == 0 then
            break
        end
        taken = taken + #part
    end
    local message = applet:get_var("txn.message")
    local grpc_status = applet:get_var("txn.grpc_status")
    if grpc_status ~= nil then
        applet:set_status(200)
        applet:add_header("content-type", "application/grpc")
        applet:add_header("grpc-status", tostring(grpc_status))
        applet:add_header("grpc-message", message)
        applet:add_header("content-length", "0")
        applet:start_response()
        return
    end
    local body = '{"error":"' .. message .. '"}'
    applet:set_status(applet:get_var("txn.status"))
    applet:add_header("content-type", "application/json")
    applet:add_header("content-length", tostring(#body))
    applet:start_response()
    applet:send(body)
end

core.register_service("refuse", "http", refuse)
