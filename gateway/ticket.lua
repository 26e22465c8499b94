-- Moves a ticket from the query into a header, and leaves the rest of the URL as it was: a mutation of query parameters by
-- Envoy's own filter would decode all of them. A key or a token in the URL is none, and is hidden before anything logs it.

local PREFIX = "ticket="
-- As services/access/core.py makes them: 32 bytes in base64.
local KEY = "tradeul_" .. ("[%w_%-]"):rep(43)
-- A parameter's value of parts in base64 of which the first is an object of JSON.
local TOKEN = "=eyJ[%w_%-]+%.[%w_%-]+%.[%w_%.%-]*"

function envoy_on_request(handle)
  local headers = handle:headers()
  local url, keys = (headers:get(":path") or ""):gsub(KEY, "tradeul_***")
  local tokens
  url, tokens = url:gsub(TOKEN, "=***")
  if keys + tokens > 0 then headers:replace(":path", url) end
  local path, query = url:match("^([^?]*)%?(.*)$")
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
