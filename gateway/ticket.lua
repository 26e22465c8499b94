-- Moves a ticket from the query into a header, and leaves the rest of the URL as it was: a mutation of query parameters by
-- Envoy's own filter would decode all of them.

local PREFIX = "ticket="

function envoy_on_request(handle)
  local headers = handle:headers()
  local path, query = (headers:get(":path") or ""):match("^([^?]*)%?(.*)$")
  if not query or not query:find(PREFIX, 1, true) then return end
  local kept, ticket = {}, nil
  for pair in query:gmatch("[^&]+") do
    if pair:sub(1, #PREFIX) == PREFIX then
      ticket = ticket or pair:sub(#PREFIX + 1)
    else
      kept[#kept + 1] = pair
    end
  end
  if not ticket then return end
  headers:replace("x-tradeul-ticket", ticket)
  headers:replace(":path", #kept > 0 and path .. "?" .. table.concat(kept, "&") or path)
end
