-- HAProxy's agent protocol, answered by HAProxy itself: how much new work this balancer can take.
--
-- Files in its chroot say that it shall get none: `drain` if an operator wants that, `stopping` before it stops.

local function is_there(name)
    local file = io.open("/" .. name)
    if file then
        file:close()
    end
    return file ~= nil
end

local function answer()
    local web = core.backends["web"]
    local all = 0
    for _ in pairs(web.servers) do
        all = all + 1
    end
    local able = web:get_srv_act()
    -- All is said every time: what an earlier answer said stays otherwise.
    local admin = (is_there("drain") or is_there("stopping")) and "drain" or "ready"
    if able == 0 then
        return admin .. " down"
    end
    return string.format("%s up %d%%", admin, math.ceil(100 * able / all))
end

core.register_service("agent", "tcp", function(applet)
    applet:send(answer() .. "\n")
end)
